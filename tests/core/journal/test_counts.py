"""Key frames of a split without loading a data set."""

import json
from pathlib import Path
from typing import Any

from stages.core.journal.counts import key_frames

PARAMS: dict[str, Any] = {
    "make_world": {"train_scenes": 24, "val_scenes": 8, "samples_per_scene": 20},
    "scenes": {"root": "nowhere", "version": "v1"},
}


def test_of_a_world_that_a_stage_draws_by_its_params() -> None:
    assert key_frames("world_train", PARAMS, made=True) == 480
    assert key_frames("world_val", PARAMS, made=True) == 160


def test_of_nuscenes_by_its_own_splits() -> None:
    assert key_frames("train", PARAMS, made=False) == 28130
    assert key_frames("nope", PARAMS, made=False) is None


def test_of_a_data_set_with_its_own_splits_by_its_tables(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    scenes = [{"name": name, "nbr_samples": count} for name, count in (("a", 3), ("b", 4), ("c", 5))]
    (tmp_path / "v1/scene.json").write_text(json.dumps(scenes))
    (tmp_path / "v1/splits.json").write_text(json.dumps({"mine": ["a", "c"]}))
    assert key_frames("mine", PARAMS | {"scenes": {"root": str(tmp_path), "version": "v1"}}, made=False) == 8
