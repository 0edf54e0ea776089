"""Points one can place by eye: the front, the one clock of all methods, what fits a budget."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.params import Params, read_params
from stages.report import budget
from stages.report.tradeoff import on_front, pareto_front, points, recommended


def test_the_front_is_what_nothing_beats_in_both() -> None:
    costs, errors = np.array([1.0, 2, 3, 2, 4]), np.array([5.0, 3, 3, 4, 1])
    assert pareto_front(costs, errors).tolist() == [True, True, False, False, True]


def test_equal_points_stand_on_the_front_together() -> None:
    assert pareto_front(np.array([1.0, 1, 2]), np.array([1.0, 1, 1])).tolist() == [True, True, False]


def test_the_front_does_not_write_into_its_arguments_and_is_empty_of_nothing() -> None:
    costs = np.array([2.0, 1])
    pareto_front(costs, np.array([1.0, 2]))
    assert costs.tolist() == [2, 1]
    assert pareto_front(np.array([]), np.array([])).tolist() == []


def flops(**by_percent: float) -> dict[str, Any]:
    rows = [{"percent": int(key[1:]), "flops": {"with_vision": value}} for key, value in by_percent.items()]
    return {"paper": {"rows": rows}, "driver": {"rows": rows}}


def timed(unpruned_ms: float, **ratios: float) -> dict[str, Any]:
    found = {
        key[1:]: {"ratio": ratio, "low": ratio / 2, "high": ratio * 2, "differs": ratio > 2}
        for key, ratio in ratios.items()
    }
    again = {"ratio": 1.0, "low": 0.9, "high": 1.1}
    phase = {"timings": {"0": {"median_ms": unpruned_ms}}, "speedups": found | {"again": again}}
    return {"phases": {"end_to_end": phase}}


def scored(method: str, percent: int, l2_cm: float) -> dict[str, Any]:
    ends = {f"{name}{end}": l2_cm for name in ("l2_cm_avg", "collision_pct_avg") for end in ("", "_low", "_high")}
    return {"method": method, "pruned_percent": percent, "n": 4, **ends}


SCORES = [scored("none", 0, 40), scored("recon", 50, 42), scored("fastv", 50, 50), scored("oracle", 50, 1)]
EFFICIENCY = {"none": flops(p0=4e12), "recon": flops(p0=4e12, p50=2e12), "fastv": flops(p0=4e12, p50=3e12)}
LATENCY = {"none": timed(10), "recon": timed(30, p50=2), "fastv": timed(20, p50=4)}


def test_all_methods_share_one_clock_and_keep_their_own_speed_up() -> None:
    rows = points(SCORES, EFFICIENCY, LATENCY)
    assert [(row["method"], row["ms"]) for row in rows] == [("none", 20), ("recon", 10), ("fastv", 5)]
    assert (rows[1]["ms_low"], rows[1]["ms_high"]) == (5, 20)
    assert [(row["tflops"], row["mflops"]) for row in rows] == [(4, 4e6), (2, 2e6), (3, 3e6)]


def test_a_point_says_on_which_fronts_it_lies_and_rulers_are_no_points() -> None:
    assert [row["front"] for row in points(SCORES, EFFICIENCY, LATENCY)] == [
        "TFLOPs, MFLOPs, ms",
        "TFLOPs, MFLOPs, ms",
        "ms",
    ]


def test_a_method_that_was_not_timed_is_on_no_front_of_milliseconds() -> None:
    rows = points(SCORES, EFFICIENCY, {})
    assert {row["ms"] for row in rows} == {None}
    assert on_front(rows, "ms", "l2_cm_avg") == []
    assert recommended(rows, 1e9) is None


@pytest.mark.parametrize(("budget_ms", "name"), [(25.0, "none"), (12.0, "recon"), (9.0, "fastv"), (3.0, None)])
def test_the_lowest_l2_within_the_budget_is_recommended(budget_ms: float, name: str | None) -> None:
    best = recommended(points(SCORES, EFFICIENCY, LATENCY), budget_ms)
    assert (best and best["method"]) == name


def with_budget(budget_ms: float | None) -> Params:
    whole = read_params(Path(__file__).parents[2] / "params.yaml")
    profile = whole.profile_efficiency.model_copy(update={"budget_ms": budget_ms})
    return whole.model_copy(update={"profile_efficiency": profile})


def samples(*l2_m: float) -> list[dict[str, Any]]:
    return [
        {"token": f"t{i}", "scene": "aabb"[i], **{f"l2_m_{s}s": value for s in (1, 2, 3)},
         **{f"{name}_{s}s": False for name in ("collision", "intersection") for s in (1, 2, 3)}}
        for i, value in enumerate(l2_m)
    ]  # fmt: skip


DRIVEN = {("none", 0): samples(1, 1, 1, 1), ("recon", 50): samples(0, 0, 3, 3), ("fastv", 50): samples(3, 3, 4, 4)}


def test_the_recommendation_says_what_these_frames_do_not_tell_apart() -> None:
    rows = points(SCORES, EFFICIENCY, LATENCY)
    found = budget.advice(rows, DRIVEN, with_budget(25.0))
    assert found is not None
    assert found["alike"] == "recon at 50 %"
    words = budget.in_words(found, rows)
    assert "Under a budget of 25 ms" in words
    assert "the lowest L2 is that of the unpruned driver: 20.00 ms" in words
    assert "do not tell it apart in L2 from what fits as well: recon at 50 %." in words
    assert budget.as_metrics(found)["recommended.ms"] == 20
    assert budget.as_tags(found) == {"recommended": "the unpruned driver"}


def test_a_time_that_may_be_over_the_budget_is_said_to_be() -> None:
    rows = points(SCORES, EFFICIENCY, LATENCY)
    found = budget.advice(rows, DRIVEN, with_budget(12.0))
    assert found is not None
    assert "recon at 50 % pruned: 10.00 ms [5.00, 20.00]" in budget.in_words(found, rows)
    assert "upper end of its time is above the budget" in budget.in_words(found, rows)


@pytest.mark.parametrize(("budget_ms", "said"), [(25.0, False), (12.0, True), (9.0, False)])
def test_a_time_like_the_unpruned_drivers_is_said_to_be(budget_ms: float, said: bool) -> None:
    """Recommended are the unpruned driver itself, recon twice as fast within the A/A spread, fastv beyond it."""
    rows = points(SCORES, EFFICIENCY, LATENCY)
    found = budget.advice(rows, DRIVEN, with_budget(budget_ms))
    assert found is not None
    assert ("That time is not told apart from the unpruned driver's" in budget.in_words(found, rows)) is said


def test_where_nothing_fits_the_fastest_is_named_and_without_a_budget_nothing_is_said() -> None:
    rows = points(SCORES, EFFICIENCY, LATENCY)
    found = budget.advice(rows, DRIVEN, with_budget(3.0))
    assert found == {"budget_ms": 3}
    assert "no method fits at any ratio; the fastest is fastv at 50 % pruned with 5.00 ms" in budget.in_words(
        found, rows
    )
    assert (budget.as_metrics(found), budget.as_tags(found)) == ({"recommended.budget_ms": 3}, {})
    assert budget.advice(rows, DRIVEN, with_budget(None)) is None
    assert budget.as_metrics(None) == budget.as_tags(None) == {}
