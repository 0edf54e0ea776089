"""What changed in params since a stage last ended."""

from hashlib import md5
from pathlib import Path
from typing import Any

from small_graph import PARAMS

from stages.core.journal.changes import changed_files, changed_params

LOCKED = {"params": {"params.yaml": {"train_pruner": {"steps": 240, "lr": 0.1, "old": 1}, "masks.size": [4, 2]}}}


def test_old_and_new_values_are_told() -> None:
    assert changed_params(LOCKED, PARAMS, ["train_pruner", "masks.size"]) == [
        "train_pruner.steps 240 -> 300",
        "train_pruner.old 1 -> nothing",
    ]


def test_a_key_that_is_new_or_gone_is_a_change() -> None:
    assert changed_params({}, PARAMS, ["masks.size"]) == ["masks.size nothing -> [4, 2]"]
    assert changed_params(LOCKED, {}, ["masks.size"]) == ["masks.size [4, 2] -> nothing"]


def test_nothing_changed_is_nothing_told() -> None:
    assert changed_params(LOCKED, PARAMS, ["masks.size"]) == []


def test_code_that_is_another_and_an_input_that_was_made_anew_are_told(tmp_path: Path) -> None:
    for name in ("same.py", "other.py"):
        (tmp_path / name).write_text(name)
    same, old = md5(b"same.py").hexdigest(), md5(b"before").hexdigest()
    files = {"same.py": same, "other.py": old, "data/masks": "a.dir", "data/world": "w.dir", "gone": "g"}
    locked: dict[str, Any] = {
        "train": {"deps": [{"path": path, "md5": hash_} for path, hash_ in files.items()]},
        "masks": {"outs": [{"path": "data/masks", "md5": "b.dir"}, {"path": "data/world", "md5": "w.dir"}]},
    }
    assert changed_files("train", locked, tmp_path) == ["other.py changed", "data/masks changed"]
