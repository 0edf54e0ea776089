"""`fastdrive doctor` on a nuScenes root that was copied badly."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from stages.cli.doctor_checks import Finding, scenes
from stages.scenes.layout import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Params that name `nusc`, a root with ten images, one map, messages of one scene."""
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("root: data/world\n", "root: nusc\n", 1)
    (tmp_path / "params.yaml").write_text(text)
    root = tmp_path / "nusc"
    (root / "samples").mkdir(parents=True)
    for name in TABLES:
        (root / "v1.0-mini").mkdir(exist_ok=True)
        (root / f"v1.0-mini/{name}.json").write_text("[]")
    names = [f"samples/CAM_FRONT/{number}.jpg" for number in range(10)]
    (root / "samples/CAM_FRONT").mkdir()
    for name in names:
        Image.new("RGB", (8, 8)).save(root / name)
    write_names(root, names)
    (root / "maps/expansion").mkdir(parents=True)
    (root / "maps/expansion/singapore.json").write_text("{}")
    (root / "can_bus").mkdir()
    (root / "can_bus/scene-0001_pose.json").write_text("[]")
    return tmp_path


def write_names(root: Path, names: list[str]) -> None:
    (root / "v1.0-mini/sample_data.json").write_text(json.dumps([{"filename": name} for name in names], indent=0))


def only(checkout: Path) -> Finding:
    (found,) = scenes(checkout)
    return found


def test_a_whole_root_is_well(checkout: Path) -> None:
    assert only(checkout).state == "ok"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("v1.0-mini/ego_pose.json", "no ego_pose.json"),
        ("samples/CAM_FRONT/3.jpg", "1 of 10 images that sample_data.json names are absent"),
        ("maps/expansion/singapore.json", "has no map"),
        ("can_bus/scene-0001_pose.json", "no pose messages"),
    ],
)
def test_a_part_that_lacks_is_named(part: str, words: str, checkout: Path) -> None:
    (checkout / "nusc" / part).unlink()
    found = only(checkout)
    assert (found.state, found.code) == ("bad", 3)
    assert words in found.got
    assert "`" in found.fix


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("samples/CAM_FRONT/4.jpg", "cannot be decoded"),
        ("maps/expansion/singapore.json", "is no JSON"),
    ],
)
def test_a_part_that_was_half_copied_is_named(part: str, words: str, checkout: Path) -> None:
    path = checkout / "nusc" / part
    path.write_bytes(b"[" + path.read_bytes()[:-1])
    found = only(checkout)
    assert found.state == "bad"
    assert words in found.got


def test_an_image_name_that_leads_out_of_the_root_is_bad(checkout: Path) -> None:
    shutil.copy(checkout / "nusc/samples/CAM_FRONT/1.jpg", checkout / "secret.jpg")
    write_names(checkout / "nusc", ["../secret.jpg"])
    assert "leads out of" in only(checkout).got


def test_a_picture_of_144_megapixels_is_not_decoded(checkout: Path) -> None:
    Image.new("1", (12_000, 12_000)).save(checkout / "nusc/samples/CAM_FRONT/5.jpg", format="PNG")
    assert "cannot be decoded" in only(checkout).got
