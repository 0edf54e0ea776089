from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.core.errors import DataError
from stages.planning.plans import COLUMNS, check_plans, plan_rows

TOKENS = ["t0", "t1", "t2"]


def plan(token: str) -> dict[str, Any]:
    """A row of a plan file that keeps 2 of 4 tokens."""
    return {
        "token": token,
        "waypoints_m": [float(i) for i in range(12)],
        "answer": "[0.0, 1.0]",
        "parsed": True,
        "kept": [1, 3],
        "tokens_kept": 2,
        "tokens_total": 4,
        "grid_h": 2,
        "grid_w": 2,
        "scores": None,
    }


def check(rows: list[dict[str, Any]], wanted: list[str] = TOKENS) -> dict:
    return check_plans(rows, wanted, TOKENS, "results/plans/recon/50.parquet", "dvc repro plan_routes@recon")


def test_rows_become_plans_by_token() -> None:
    plans = check([plan(token) for token in reversed(TOKENS)])
    assert set(plans) == set(TOKENS)
    assert plans["t1"].waypoints_m[1].tolist() == [2, 3]
    assert plans["t1"].kept.tolist() == [1, 3]
    assert plans["t1"].grid == (2, 2)


def test_a_lacking_key_frame_is_named() -> None:
    with pytest.raises(DataError, match=r"2 rows, 1 tokens lacking \(first: t2\).*dvc repro plan_routes@recon"):
        check([plan("t0"), plan("t1")])


def test_a_plan_of_another_split_is_named() -> None:
    with pytest.raises(DataError, match=r"1 tokens of another split \(first: elsewhere\)"):
        check([*map(plan, TOKENS), plan("elsewhere")])


def test_a_token_with_two_plans_is_named() -> None:
    with pytest.raises(DataError, match=r"1 tokens twice in it \(first: t1\)"):
        check([*map(plan, TOKENS), plan("t1")])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_waypoint_that_is_no_number_is_refused(bad: float | None) -> None:
    rows = [*map(plan, TOKENS)]
    rows[1]["waypoints_m"][5] = bad
    with pytest.raises(DataError, match="sample t1 .* 12 numbers, 1 of them not finite"):
        check(rows)


@pytest.mark.parametrize("points", [0, 3, 5, 9])
def test_a_plan_of_other_than_six_points_is_refused(points: int) -> None:
    rows = [*map(plan, TOKENS)]
    rows[0]["waypoints_m"] = [0.0] * 2 * points
    with pytest.raises(DataError, match=f"12 finite numbers .* sample t0 .* got {2 * points} numbers"):
        check(rows)


@pytest.mark.parametrize("column", ["token", "parsed", "grid_w", "scores"])
def test_a_missing_column_is_refused(column: str) -> None:
    rows = [*map(plan, TOKENS)]
    for row in rows:
        del row[column]
    with pytest.raises(DataError):
        check(rows)


def test_scores_come_as_arrays_and_may_be_absent() -> None:
    written = [plan("t0") | {"scores": [0.5, 2.0, -1.0, 0.25]}, plan("t1"), plan("t2")]
    rows = plan_rows(pa.Table.from_pylist(written))
    assert isinstance(rows[0]["scores"], np.ndarray)
    plans = check(rows)
    assert plans["t0"].scores is not None
    assert (plans["t0"].scores.tolist(), plans["t1"].scores) == ([0.5, 2, -1, 0.25], None)


def test_plans_from_before_there_were_scores_are_to_be_made_again() -> None:
    old = pa.Table.from_pylist([plan(token) for token in TOKENS]).drop_columns(["scores"])
    with pytest.raises(DataError, match="no scores; next: run `dvc repro plan_routes@recon`"):
        check(plan_rows(old))


@pytest.mark.parametrize(("scores", "came"), [([1.0] * 3, "3 numbers, 0 of"), ([1, 2, 3, np.inf], "4 numbers, 1 of")])
def test_a_token_without_a_finite_score_is_refused(scores: list[float], came: str) -> None:
    rows = [plan("t0") | {"scores": scores}, plan("t1"), plan("t2")]
    with pytest.raises(DataError, match=f"each of the 4 tokens of sample t0 .* {came}"):
        check(rows)


def test_two_counts_of_kept_tokens_in_one_file_are_refused() -> None:
    rows = [*map(plan, TOKENS)]
    rows[2]["tokens_kept"] = 3
    with pytest.raises(DataError, match="one count of kept tokens .* 2 of 4 in 2 rows, 3 of 4 in 1 rows"):
        check(rows)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(DataError, match=r"a list without any; next: edit score_plans\.samples"):
        check_plans([], [], TOKENS, "path", "command")


def test_plans_that_are_not_listed_may_be_there_or_not() -> None:
    assert set(check([*map(plan, TOKENS)], ["t1"])) == set(TOKENS)
    assert set(check([plan("t1")], ["t1"])) == {"t1"}
    with pytest.raises(DataError, match=r"1 tokens lacking \(first: t2\)"):
        check([plan("t1")], ["t1", "t2"])


def test_lists_of_a_plan_file_come_as_arrays() -> None:
    rows = plan_rows(pa.Table.from_pylist([*map(plan, TOKENS)]))
    assert all(isinstance(rows[0][name], np.ndarray) for name in ("waypoints_m", "kept"))
    assert check(rows)["t2"].kept.tolist() == [1, 3]


def test_tokens_that_nobody_asks_for_are_not_read() -> None:
    rows = [{key: value for key, value in plan(token).items() if key in COLUMNS} for token in TOKENS]
    plans = check_plans(rows, TOKENS, TOKENS, "path", "command", COLUMNS)
    assert plans["t1"].kept is plans["t1"].scores is None
    with pytest.raises(DataError, match="no kept"):
        check_plans(rows, TOKENS, TOKENS, "path", "command")
