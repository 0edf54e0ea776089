"""`fastdrive explain`: what a key is, and what runs again when it changes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core.errors import ParamsError
from stages.core.params import read_params
from stages.keys.fields import key, keys
from stages.keys.reruns import expanded, reruns

ROOT = Path(__file__).parents[2]
GRAPH: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = read_params(ROOT / "params.yaml")
TREE = PARAMS.model_dump(mode="json")
SMALL: dict[str, Any] = {
    "make": {"params": ["seed"], "outs": ["data"]},
    "plan": {"matrix": {"who": "${who}"}, "params": ["opt.${item.who}"], "deps": ["data"], "outs": ["out/${item.who}"]},
    "tell": {"deps": ["out/a", "out/b"], "outs": [{"page": {"cache": False}}]},
}
SMALL_PARAMS: dict[str, Any] = {"seed": 1, "who": ["a", "b"], "opt": {"a": {}, "b": {}}}


def test_a_bounded_number_is_told_with_its_bounds_and_its_comment() -> None:
    told = key(PARAMS, "train_pruner.alpha")
    assert (told.value, told.kind) == (0.5, "float, >= 0, <= 1")
    assert "Eq. 8" in told.says


def test_an_entry_of_a_mapping_is_a_key_too() -> None:
    assert key(PARAMS, "pruners.fastv.layer").value == 1


def test_a_choice_is_told_with_its_values() -> None:
    assert key(PARAMS, "vla.host").kind == "one of eager, fast"


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ParamsError, match="`fastdrive explain train_pruner.alpha`"):
        key(PARAMS, "train_pruner.alfa")


@pytest.mark.parametrize("name", list(keys(PARAMS)))
def test_every_key_can_be_explained(name: str) -> None:
    assert key(PARAMS, name).kind


def test_a_change_runs_its_readers_and_what_reads_them() -> None:
    assert reruns(SMALL, SMALL_PARAMS, "seed") == (["make"], ["plan", "tell"])


def test_a_change_of_one_cell_leaves_the_others_fresh() -> None:
    assert reruns(SMALL, SMALL_PARAMS, "opt.b") == (["plan@b"], ["tell"])


def test_the_cells_are_those_of_dvc() -> None:
    """dvc.lock names what DVC itself made of the matrix."""
    assert set(expanded(GRAPH, TREE)) == set(yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"])


def test_who_works_on_masks_runs_nothing_again() -> None:
    assert reruns(GRAPH, TREE, "generate_masks.workers") == ([], [])
