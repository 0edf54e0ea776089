"""What changed in params since a stage last ended."""

from small_graph import PARAMS

from stages.journal.changes import changed_params

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
