from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root

from stages.errors import DataError, ParamsError
from stages.masks import scene, shards
from stages.masks.scene import Recipe, SceneMaker, opened, split_of_scene


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Masks of a fresh root in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    copy_root(tmp_path / "nuscenes")
    for cached in (opened, scene._ready):
        cached.cache_clear()
    return Recipe("nuscenes", VERSION, "nuscenes_geometry", {}, 50, None)


def test_a_scene_is_cut_into_shards_of_at_most_so_many_images(recipe: Recipe) -> None:
    made = SceneMaker(recipe, recipe.work_folder())(TRAIN)
    assert list(made["shards"]) == [f"shards/{TRAIN}-000.tar", f"shards/{TRAIN}-001.tar"]
    held = [row["shard"] for row in made["rows"]]
    assert [held.count(name) for name in made["shards"]] == [50, 34]  # 14 key frames of 6 cameras
    assert made["overlap"] == {}


def test_rows_are_in_the_order_of_time_and_cameras(recipe: Recipe) -> None:
    rows = SceneMaker(recipe, recipe.work_folder())(TRAIN)["rows"]
    scenes = opened(recipe.root, recipe.version)
    expected = [
        camera.token for token in scenes.tokens("synth_train") for camera in scenes.frame(token).cameras.values()
    ]
    assert [row["token"] for row in rows] == expected


def test_a_finished_scene_is_not_made_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = SceneMaker(recipe, recipe.work_folder())
    first = maker(TRAIN)

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(shards, "write_shard", never)
    assert maker(TRAIN) == first
    with pytest.raises(AssertionError, match="made again"):
        maker(JUDGED)


def test_a_damaged_shard_of_a_former_run_is_made_again(recipe: Recipe) -> None:
    maker = SceneMaker(recipe, recipe.work_folder())
    first = maker(TRAIN)
    path = maker.work / "shards" / f"{TRAIN}-000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert maker(TRAIN) == first
    assert path.read_bytes() == whole


def test_whatever_shapes_the_masks_changes_the_work_folder(recipe: Recipe) -> None:
    folder = recipe.work_folder()
    assert recipe.work_folder() == folder
    assert replace(recipe, options={"range_m": 40.0}).work_folder() != folder
    assert replace(recipe, images_per_shard=51).work_folder() != folder
    table = Path(recipe.root, VERSION, "sample_annotation.json")
    table.write_text(table.read_text().replace("1.9", "2.0"))
    assert recipe.work_folder() != folder


def test_agreement_with_the_truth_is_summed_by_camera(recipe: Recipe) -> None:
    frames = [opened(recipe.root, VERSION).frame(token) for token in opened(recipe.root, VERSION).tokens("synth_train")]
    for frame in frames:
        for camera in frame.cameras.values():
            path = Path("oracle", frame.scene, f"{camera.token}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones((90, 160), np.uint8)).save(path)  # all road
    with_truth = replace(recipe, oracle_root="oracle")
    made = SceneMaker(with_truth, with_truth.work_folder())(TRAIN)
    front = np.array(made["overlap"]["CAM_FRONT"])
    assert front[0, 1] == front[1, 1] == 14 * 90 * 160  # the union with an image that is all road
    share = np.mean([row["foreground_share"] for row in made["rows"] if row["camera"] == "CAM_FRONT"])
    assert front[0, 0] == round(share * 14 * 90 * 160)
    path.unlink()
    with pytest.raises(DataError, match=f"the true class map {path}.*dvc repro make_world"):
        SceneMaker(with_truth, Path("other"))(TRAIN)


def test_splits_that_share_a_scene_are_refused(recipe: Recipe) -> None:
    assert split_of_scene("nuscenes", VERSION, ("synth_train", "synth_val")) == {
        TRAIN: "synth_train",
        JUDGED: "synth_val",
    }
    with pytest.raises(ParamsError, match=f"1 in both synth_val and synth_val .*{JUDGED}"):
        split_of_scene("nuscenes", VERSION, ("synth_val", "synth_val"))
