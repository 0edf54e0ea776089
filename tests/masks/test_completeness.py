"""What lacks in a mask set is named, against the data set and between cameras."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_root import JUDGED, TRAIN, VERSION

from stages.core.errors import DataError
from stages.core.params import Params
from stages.masks import completeness, shards
from stages.masks.recipe import WORK, Recipe
from stages.masks.shard_maker import opened, split_of_scene

SPLITS = ("synth_train", "synth_val")
Rows = list[dict[str, Any]]


@pytest.fixture
def rows(recipe: Recipe) -> Rows:
    """A row of each image of the small root."""
    scenes, split_of = opened(recipe.root, VERSION), split_of_scene(recipe.root, VERSION, SPLITS)
    return [
        {"token": camera.token, "sample": token, "scene": scene, "split": split_of[scene], "camera": name}
        for scene in split_of
        for token in scenes.tokens_of_scene(scene)
        for name, camera in scenes.frame(token).cameras.items()
    ]


def faults(recipe: Recipe, rows: Rows) -> list[str]:
    split_of = split_of_scene(recipe.root, VERSION, SPLITS)
    return list(completeness.against(opened(recipe.root, VERSION), split_of, rows))


def test_a_set_of_every_image_lacks_nothing(recipe: Recipe, rows: Rows) -> None:
    assert faults(recipe, rows) == []
    assert list(completeness.between_cameras(rows)) == []


def test_a_scene_a_key_frame_and_an_image_that_lack_are_named(recipe: Recipe, rows: Rows) -> None:
    assert faults(recipe, [row for row in rows if row["scene"] == TRAIN]) == [
        f"no mask of {JUDGED} (synth_val, 14 key frames)"
    ]
    sample = rows[0]["sample"]
    six = "CAM_FRONT, CAM_FRONT_RIGHT, CAM_BACK_RIGHT, CAM_BACK, CAM_BACK_LEFT, CAM_FRONT_LEFT"
    assert faults(recipe, rows[6:]) == [f"no mask of {six} in sample {sample} of {TRAIN}"]
    lost = [f"no mask of CAM_FRONT_RIGHT in sample {sample} of {TRAIN}"]
    assert faults(recipe, [rows[0], *rows[2:]]) == lost
    assert list(completeness.between_cameras([rows[0], *rows[2:]])) == lost


def test_what_is_named_otherwise_or_of_no_scene_is_a_fault(recipe: Recipe, rows: Rows) -> None:
    (fault,) = faults(recipe, [{**rows[0], "split": "synth_val"}, *rows[1:]])
    assert fault == f"{rows[0]['token']} as of {TRAIN} (synth_val): {TRAIN} (synth_train)"
    assert faults(recipe, [*rows, {**rows[0], "sample": "other"}]) == [
        "1 masks of sample other, of no scene of the splits"
    ]


def test_a_camera_that_the_data_set_lacks_is_no_fault(
    recipe: Recipe, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = opened(recipe.root, VERSION)
    stock: Callable[[str], Any] = scenes.frame

    def frame(token: str) -> Any:
        found = stock(token)
        found.cameras.pop("CAM_FRONT_RIGHT")
        return found

    monkeypatch.setattr(scenes, "frame", frame)
    assert faults(recipe, [rows[0], *rows[2:]]) == []


def test_verify_ends_with_3_when_a_mask_lacks(published: Params) -> None:
    command = [sys.executable, "-m", "stages.masks.verify", "--sheet", "none"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    held = [{**row, "phrases": [], "boxes": []} for row in shards.MaskSet().rows]
    (work,) = WORK.iterdir()
    for rows, code in ((held, 0), (held[1:], DataError.exit_code)):
        shards.publish(work, shards.FOLDER, rows, {})
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert "every image of the splits; got 1 faults: no mask of CAM_FRONT in sample" in done.stderr
