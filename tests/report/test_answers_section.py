"""Only what the page shows becomes Python objects."""

from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import DataError
from stages.core.params import read_params
from stages.report.answers import read_answers
from stages.vla.base import Plan
from stages.vla.plans import plans_path, write_plans

GRID = read_params(Path(__file__).parents[2] / "params.yaml").grid


def plan(token: str) -> Plan:
    return Plan(
        token, np.ones((6, 2)), f"answer of {token}", True, np.array([0, 3]), 2, 4, (2, 2), np.zeros(4, np.float32)
    )


def test_answers_are_read_by_cell_and_token_without_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_plans(plans_path("recon", 25), [plan("a"), plan("b"), plan("c")])
    found = read_answers([("recon", 25)], {"a", "c", "elsewhere"}, GRID)
    assert list(found["recon", 25]) == ["a", "c"]
    answer = found["recon", 25]["c"]
    assert (answer["answer"], answer["kept"]) == ("answer of c", [0, 3])
    assert "scores" not in answer


def test_a_missing_plan_names_the_stage_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="plan_trained@recon"):
        read_answers([("recon", 25)], {"a"}, GRID)
