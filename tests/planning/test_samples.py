"""Which key frames are scored, and the plans for them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.plugins import available
from stages.planning.base import KeyFrame
from stages.planning.samples import (
    COLUMNS,
    OFFICIAL,
    PlannedSample,
    departure,
    list_counts,
    planned_samples,
    question_list,
    sample_list,
)

FUTURE = 6
TOKENS = ["t0", "t1", "t2"]
SCHEMA = {"token": pa.string(), "waypoints_m": pa.list_(pa.float64()), "parsed": pa.bool_()}
SCHEMA |= dict.fromkeys(("tokens_kept", "tokens_total", "grid_h", "grid_w"), pa.int32())
SCHEMA |= {"kept": pa.list_(pa.int32()), "scores": pa.list_(pa.float32())}


def scene(name: str, length: int) -> list[KeyFrame]:
    return [KeyFrame(f"{name}{i}", name, i, complete=i < length - FUTURE) for i in range(length)]


TWO = [*scene("a", 10), *scene("b", 8)]  # a0 to a3 and b0, b1 have a whole future; a2 and a3 two of the past besides
VAL = [frame for i in range(150) for frame in scene(f"s{i:03d}-", 41 if i < 19 else 40)]


def questions(*tokens: str) -> list[dict[str, Any]]:
    return [{"id": token, "images": ["front.jpg"], "messages": []} for token in tokens]


def test_the_named_lists_of_two_short_scenes() -> None:
    assert list(sample_list("all", None, TWO)) == [frame.token for frame in TWO]
    assert list(sample_list("complete", None, TWO)) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    assert list(sample_list("stp3", None, TWO)) == ["a2", "a3"]


def test_nuscenes_val_has_the_counts_of_the_papers() -> None:
    listed = {name: sample_list(name, None, VAL).total() for name in ("all", "complete", "stp3")}
    assert listed == {"all": 6019, "complete": 5119, "stp3": 4819}


def test_impromptus_file_lists_6019_with_900_repeated() -> None:
    whole = [frame.token for frame in VAL if frame.complete]
    samples = question_list("nuscenes_test.json", questions(*whole, *whole[::5][:900]), VAL)
    assert list_counts(samples, VAL) == {"listed": 6019, "repeated": 900, "incomplete": 0}
    assert len(samples) == 5119


def test_a_question_file_counts_each_entry_and_needs_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(questions("b0", "a1", "b0", "b7")))
    samples = sample_list(str(path), io.sha256(path), TWO)
    assert samples == {"b0": 2, "a1": 1, "b7": 1}
    assert list_counts(samples, TWO) == {"listed": 4, "repeated": 1, "incomplete": 1}
    with pytest.raises(ParamsError, match=io.sha256(path)):
        sample_list(str(path), None, TWO)
    with pytest.raises(DataError, match="0" * 64):
        sample_list(str(path), "0" * 64, TWO)
    with pytest.raises(DataError, match="no such file"):
        sample_list("test.json", None, TWO)
    with pytest.raises(ParamsError, match="all, complete, stp3"):
        sample_list("complet", None, TWO)


@pytest.mark.parametrize("records", [{"id": "a0"}, [], None, [{"id": "a0"}, {}], questions("a0", "z9")])
def test_a_file_that_is_no_list_of_questions_about_the_split_is_refused(records: Any) -> None:
    with pytest.raises(DataError, match=r"test.json.*score_plans.samples"):
        question_list("test.json", records, TWO)


def test_a_list_that_the_official_code_does_not_score_is_named() -> None:
    assert departure("omnidrive", "all") is departure("omnidrive", "complete") is departure("stp3", "stp3") is None
    assert "omnidrive" in (departure("omnidrive", "questions.json") or "")
    assert departure("a_new_protocol", "all") is None
    assert departure("impromptu", "questions.json") is None  # its evaluator reads answers to its own file
    assert departure("uniad", "complete")
    assert set(OFFICIAL) == set(available("protocols"))


def plan(token: str, **changes: Any) -> dict[str, Any]:
    """A row of a plan file that keeps 2 of 4 tokens."""
    counts = {"tokens_kept": 2, "tokens_total": 4, "grid_h": 2, "grid_w": 2}
    row = {"token": token, "waypoints_m": [float(i) for i in range(12)], "parsed": True, "kept": [1, 3]}
    return row | counts | {"scores": None} | changes


def read(rows: list[dict[str, Any]], wanted: list[str] = TOKENS) -> dict[str, PlannedSample]:
    table = pa.Table.from_pylist(rows, pa.schema(SCHEMA))
    return planned_samples(table, wanted, TOKENS, "results/plans/recon/50.parquet", "dvc repro plan_trained@recon")


def test_rows_become_plans_by_token_and_those_not_listed_may_be_there_or_not() -> None:
    plans = read([plan("t2"), plan("t1"), plan("t0", scores=[0.5, 2.0, -1.0, 0.25])], ["t1"])
    assert set(plans) == set(TOKENS)
    assert plans["t1"].waypoints_m[1].tolist() == [2, 3]
    assert (plans["t1"].kept.tolist(), plans["t1"].grid, plans["t1"].scores) == ([1, 3], (2, 2), None)
    assert plans["t0"].scores.tolist() == [0.5, 2, -1, 0.25]
    table = pa.Table.from_pylist([*map(plan, TOKENS)], pa.schema(SCHEMA)).select(COLUMNS)
    assert planned_samples(table, TOKENS, TOKENS, "path", "command")["t1"].kept is None


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
