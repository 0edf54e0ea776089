from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_root import JUDGED, TRAIN, VERSION

from stages.core.errors import DataError, ParamsError
from stages.masks import shards, writing
from stages.masks.collecting import collect
from stages.masks.plan import Part, Shard
from stages.masks.recipe import Recipe
from stages.masks.shard_maker import ShardMaker, finished, opened, planned, split_of_scene

SPLITS = ("synth_train", "synth_val")
FIRST, SECOND = (Shard("synth_train", i, (Part(TRAIN, 7 * i, 7 * i + 7),)) for i in (0, 1))


def made(recipe: Recipe, shard: Shard, work: Path | None = None) -> Any:
    """What is noted about a shard once it is made."""
    maker = ShardMaker(recipe, work or recipe.work_folder())
    assert maker(shard) == shard.name
    return finished(maker.work, shard)


def test_a_scene_is_planned_by_its_key_frames(recipe: Recipe) -> None:
    plan = planned(recipe, SPLITS)
    assert plan[:2] == [FIRST, SECOND]  # 14 key frames of 6 cameras, at most 50 images in a shard
    assert [shard.split for shard in plan] == ["synth_train"] * 2 + ["synth_val"] * 2


def test_rows_are_in_the_order_of_time_and_cameras(recipe: Recipe) -> None:
    rows = [row for shard in (FIRST, SECOND) for row in made(recipe, shard)["rows"]]
    scenes = opened(recipe.root, recipe.version)
    expected = [
        camera.token for token in scenes.tokens("synth_train") for camera in scenes.frame(token).cameras.values()
    ]
    assert [row["token"] for row in rows] == expected
    assert {row["split"] for row in rows} == {"synth_train"}


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_masks_do_not_depend_on_how_many_images_are_annotated_at_once(
    recipe: Recipe, at_once: int, tmp_path: Path
) -> None:
    first = made(recipe, FIRST)
    batched = made(replace(recipe, options={"images_at_once": at_once}), FIRST, tmp_path / "batched")
    assert [batched[key] for key in ("rows", "sha256")] == [first[key] for key in ("rows", "sha256")]


def test_a_finished_shard_is_not_made_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(recipe, FIRST)

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(writing, "write_shard", never)
    assert made(recipe, FIRST) == first
    with pytest.raises(AssertionError, match="made again"):
        made(recipe, SECOND)


@pytest.mark.parametrize("suffix", ["tar", "json"])
def test_a_damaged_shard_or_note_of_a_former_run_is_made_again(recipe: Recipe, suffix: str) -> None:
    first = made(recipe, FIRST)
    folder = recipe.work_folder()
    path = folder / FIRST.name if suffix == "tar" else folder / f"{FIRST.stem}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"x")
    assert finished(folder, FIRST) is None
    assert made(recipe, FIRST) == first
    assert path.read_bytes() == whole


def test_a_shard_of_another_plan_is_not_taken_for_this_one(recipe: Recipe) -> None:
    made(recipe, FIRST)
    assert finished(recipe.work_folder(), replace(FIRST, parts=SECOND.parts)) is None


def test_the_class_map_of_each_image_is_kept(recipe: Recipe) -> None:
    rows = made(recipe, FIRST)["rows"]
    shards.publish(recipe.work_folder(), Path("data/masks"), rows, {})
    masks = shards.MaskSet(Path("data/masks"))
    for row in rows[:6]:
        classes = masks.classes(row["token"])
        assert classes is not None
        np.testing.assert_array_equal(classes > 0, masks.mask(row["token"]))
    assert {int(value) for row in rows for value in np.unique(masks.classes(row["token"]))} >= {0, 1, 2}


def test_whatever_shapes_the_masks_changes_the_work_folder(recipe: Recipe) -> None:
    folder = recipe.work_folder()
    assert recipe.work_folder() == folder
    assert replace(recipe, options={"range_m": 40.0}).work_folder() != folder
    assert replace(recipe, options={"not_road": ["walkway"]}).work_folder() != folder
    assert replace(recipe, images_per_shard=51).work_folder() != folder
    table = Path(recipe.root, VERSION, "sample_annotation.json")
    table.write_text(table.read_text().replace("1.9", "2.0"))
    assert recipe.work_folder() != folder


def test_code_that_shapes_masks_counts_and_what_reports_on_them_does_not(recipe: Recipe) -> None:
    code = set(recipe._code())
    assert {"masks/nuscenes_geometry.py", "masks/projection.py", "masks/shards.py", "scenes/nuscenes.py"} <= code
    assert code.isdisjoint({"masks/summary.py", "masks/verify.py", "masks/contact_sheet.py", "masks/collecting.py"})


def test_agreement_with_the_truth_is_summed_by_camera(recipe: Recipe) -> None:
    frames = [opened(recipe.root, VERSION).frame(token) for token in opened(recipe.root, VERSION).tokens("synth_train")]
    for frame in frames:
        for camera in frame.cameras.values():
            path = Path("oracle", frame.scene, f"{camera.token}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones((90, 160), np.uint8)).save(path)  # all road
    with_truth = replace(recipe, oracle_root="oracle")
    note = made(with_truth, FIRST)
    (overlap,) = collect(with_truth.work_folder(), [FIRST]).overlaps
    front = overlap["CAM_FRONT"]
    assert front[0, 1] == front[1, 1] == 7 * 90 * 160  # the union with an image that is all road
    share = np.mean([row["foreground_share"] for row in note["rows"] if row["camera"] == "CAM_FRONT"])
    assert front[0, 0] == round(share * 7 * 90 * 160)
    path.unlink()
    with pytest.raises(DataError, match=f"the true class map {path}.*dvc repro make_world"):
        made(with_truth, SECOND)


def test_splits_that_share_a_scene_are_refused(recipe: Recipe) -> None:
    assert split_of_scene("nuscenes", VERSION, ("synth_train", "synth_val")) == {
        TRAIN: "synth_train",
        JUDGED: "synth_val",
    }
    with pytest.raises(ParamsError, match=f"1 in both synth_val and synth_val .*{JUDGED}"):
        split_of_scene("nuscenes", VERSION, ("synth_val", "synth_val"))
