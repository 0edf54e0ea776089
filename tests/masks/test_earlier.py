"""New scenes cost new masks alone: what an earlier set has of the very same is taken over, byte for byte."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import masks_workspace
import pytest
from synthetic_root import JUDGED, TRAIN, VERSION

from stages import generate_masks
from stages.core.params import Params, read_params
from stages.masks import nuscenes_geometry
from stages.masks.base import Mask
from stages.masks.job import WORK
from stages.masks.nuscenes_geometry import Annotator
from stages.scenes.base import Camera, Frame

IMAGES = 3 * 6  # of a scene


@pytest.fixture
def annotated(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many images of each scene the annotator has worked on."""
    count: Counter[str] = Counter()
    annotate = Annotator.annotate

    def counted(self: Annotator, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        count.update(frame.scene for frame, _ in images)
        return annotate(self, images)

    monkeypatch.setattr(nuscenes_geometry.Annotator, "annotate", counted)
    return count


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Masks of one scene of three key frames; a second one stands in no split yet."""
    monkeypatch.chdir(tmp_path)
    masks_workspace.write_workspace("old", "new", images_per_shard=1000)
    return splits(old=[TRAIN], new=[])


def splits(**scenes: list[str]) -> Params:
    """The data set of now."""
    Path("nuscenes", VERSION, "splits.json").write_text(json.dumps(scenes))
    return read_params()


def run(params: Params) -> dict[str, str]:
    """Run the stage as a new process would; the hashes of what it leaves."""
    masks_workspace.start()
    shutil.rmtree("data/masks", ignore_errors=True)  # as DVC does
    generate_masks.main(params)
    return masks_workspace.hashes()


def test_a_new_scene_costs_its_own_images_and_the_bytes_are_those_of_a_fresh_run(
    params: Params, annotated: Counter[str]
) -> None:
    run(params)
    assert annotated == {TRAIN: IMAGES}
    grown = splits(old=[TRAIN, JUDGED], new=[])  # both in one shard, which is made anew
    found = run(grown)
    assert annotated == {TRAIN: IMAGES, JUDGED: IMAGES}
    shutil.rmtree(WORK)
    assert run(grown) == found
    assert annotated == {TRAIN: 2 * IMAGES, JUDGED: 2 * IMAGES}


def test_a_changed_box_costs_the_key_frames_that_see_it(params: Params, annotated: Counter[str]) -> None:
    run(splits(old=[TRAIN, JUDGED], new=[]))
    annotated.clear()
    first = json.loads(Path("nuscenes", VERSION, "sample.json").read_text())[0]["token"]
    path = Path("nuscenes", VERSION, "sample_annotation.json")
    annotations = json.loads(path.read_text())
    next(record for record in annotations if record["sample_token"] == first)["size"][0] += 0.5
    path.write_text(json.dumps(annotations))
    run(splits(old=[TRAIN, JUDGED], new=[]))
    assert annotated == {TRAIN: 6}


@pytest.mark.parametrize("damage", ["tar", "gone"])
def test_what_is_damaged_of_the_earlier_set_is_made_again(params: Params, annotated: Counter[str], damage: str) -> None:
    run(params)
    (work,) = WORK.iterdir()
    (path,) = work.glob("shards/*.tar")
    data = bytearray(path.read_bytes())
    data[700] ^= 1  # in the tar: a byte of the first mask
    path.unlink() if damage == "gone" else path.write_bytes(data)
    annotated.clear()
    run(splits(old=[TRAIN, JUDGED], new=[]))
    assert annotated == {TRAIN: 1 if damage == "tar" else IMAGES, JUDGED: IMAGES}
