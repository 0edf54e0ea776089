from typing import Any

import pyarrow as pa
import pytest

from stages.core.errors import DataError
from stages.planning.plans import COLUMNS, PlannedSample, planned_samples

TOKENS = ["t0", "t1", "t2"]
SCHEMA = {
    "token": pa.string(),
    "waypoints_m": pa.list_(pa.float64()),
    "parsed": pa.bool_(),
    "kept": pa.list_(pa.int32()),
}
SCHEMA |= dict.fromkeys(("tokens_kept", "tokens_total", "grid_h", "grid_w"), pa.int32())
SCHEMA |= {"scores": pa.list_(pa.float32())}


def plan(token: str, **changes: Any) -> dict[str, Any]:
    """A row of a plan file that keeps 2 of 4 tokens."""
    waypoints_m = [float(i) for i in range(12)]
    counts = {"tokens_kept": 2, "tokens_total": 4, "grid_h": 2, "grid_w": 2}
    return {
        "token": token,
        "waypoints_m": waypoints_m,
        "parsed": True,
        "kept": [1, 3],
        **counts,
        "scores": None,
    } | changes


def read(rows: list[dict[str, Any]], wanted: list[str] = TOKENS) -> dict[str, PlannedSample]:
    table = pa.Table.from_pylist(rows, pa.schema(SCHEMA))
    return planned_samples(table, wanted, TOKENS, "results/plans/recon/50.parquet", "dvc repro plan_trained@recon")


def test_rows_become_plans_by_token() -> None:
    plans = read([plan("t2"), plan("t1"), plan("t0", scores=[0.5, 2.0, -1.0, 0.25])])
    assert set(plans) == set(TOKENS)
    assert plans["t1"].waypoints_m[1].tolist() == [2, 3]
    assert (plans["t1"].kept.tolist(), plans["t1"].grid, plans["t1"].scores) == ([1, 3], (2, 2), None)
    assert plans["t0"].scores.tolist() == [0.5, 2, -1, 0.25]


@pytest.mark.parametrize(
    ("tokens", "fault"),
    [
        (["t0", "t1"], r"1 tokens lacking \(first: t2\)"),
        ([*TOKENS, "elsewhere"], r"of another split \(first: elsewhere\)"),
        ([*TOKENS, "t1"], r"twice in it \(first: t1\)"),
    ],
)
def test_plans_that_do_not_fit_the_split_are_refused(tokens: list[str], fault: str) -> None:
    with pytest.raises(DataError, match=f"{fault}.*dvc repro plan_trained@recon"):
        read([*map(plan, tokens)])


@pytest.mark.parametrize("waypoints", [[0.0] * 11 + [float("nan")], [0.0] * 11 + [None], [0.0] * 10, []])
def test_a_plan_of_other_than_six_finite_points_is_refused(waypoints: list[float]) -> None:
    with pytest.raises(DataError, match="12 finite numbers .* sample t0"):
        read([plan("t0", waypoints_m=waypoints), plan("t1"), plan("t2")])


def test_plans_that_are_not_listed_may_be_there_or_not() -> None:
    assert set(read([*map(plan, TOKENS)], ["t1"])) == set(TOKENS)
    assert set(read([plan("t1")], ["t1"])) == {"t1"}
    with pytest.raises(DataError, match="without any"):
        read([plan("t1")], [])


def test_tokens_that_nobody_asks_for_are_not_read() -> None:
    table = pa.Table.from_pylist([*map(plan, TOKENS)], pa.schema(SCHEMA)).select(COLUMNS)
    plans = planned_samples(table, TOKENS, TOKENS, "path", "command")
    assert plans["t1"].kept is plans["t1"].scores is None
