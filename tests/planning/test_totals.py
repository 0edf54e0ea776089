from dataclasses import replace
from typing import Any

import numpy as np
import plain_truth
import pytest

from stages.planning.base import NO_RATE, SampleScore
from stages.planning.intervals import wilson
from stages.planning.samples import PlannedSample
from stages.planning.scoring import driven_m, errors_at_m, metrics_tree, ratio_row, sample_row, totals


def sample(l2_m: float, collision_s: int | None = None, scene: str = "a") -> dict[str, Any]:
    """A scored sample with one L2 and a collision from `collision_s` on."""
    hit = {f"collision_{s}s": collision_s is not None and s >= collision_s for s in (1, 2, 3)}
    rest = {f"l2_m_{s}s": l2_m * s for s in (1, 2, 3)} | {f"intersection_{s}s": False for s in (1, 2, 3)}
    rest |= {f"l2_at_cm_{s}s": 100 * l2_m * (s + 1) for s in (1, 2, 3)}
    return {"scene": scene, **hit, **rest}


TRUTH = plain_truth.truth(np.zeros((6, 2)), token="t", scene="a")
FOUR = [sample(1.0, 2, "a"), sample(2.0, 3, "a"), sample(3.0, None, "b"), sample(2.0, None, "c")]


def test_sums_counts_and_values_of_four_samples() -> None:
    row = totals(FOUR, resamples=100, seed=0)
    assert (row["n"], row["scenes"]) == (4, 3)
    assert [row[f"l2_m_sum_{s}s"] for s in (1, 2, 3)] == [8, 16, 24]
    assert [row[f"l2_cm_{s}s"] for s in (1, 2, 3)] == [200, 400, 600]
    assert row["l2_cm_avg"] == 400
    assert [row[f"l2_at_cm_{s}s"] for s in (1, 2, 3)] == [400, 600, 800]
    assert row["l2_at_cm_avg_low"] < row["l2_at_cm_avg"] == 600 < row["l2_at_cm_avg_high"]
    assert [row[f"collision_events_{s}s"] for s in (1, 2, 3)] == [0, 1, 2]
    assert [row[f"collision_pct_{s}s"] for s in (1, 2, 3)] == [0, 25, 50]
    assert row["collision_pct_avg"] == 25
    assert row["l2_cm_avg_low"] < 400 < row["l2_cm_avg_high"]
    assert (row["collision_pct_3s_low"], row["collision_pct_3s_high"]) == tuple(100 * p for p in wilson(2, 4))


def test_a_rate_without_events_still_has_a_wide_interval() -> None:
    row = totals(FOUR, resamples=100, seed=0)
    assert (row["intersection_pct_avg_low"], row["intersection_pct_avg_high"]) == (0, 100 * wilson(0, 4)[1])


def test_no_samples_give_no_values() -> None:
    row = totals([], resamples=100, seed=0)
    assert (row.pop("n"), row.pop("scenes")) == (0, 0)
    assert set(row.values()) == {None}
    assert set(row) == set(totals(FOUR, resamples=10, seed=0)) - {"n", "scenes"}


def test_each_horizon_has_an_interval_of_its_own() -> None:
    row = totals(FOUR, resamples=200, seed=0)
    for s in (1, 2, 3):
        assert [row[f"l2_cm_{s}s_{end}"] for end in ("low", "high")] == [150 * s, 300 * s]  # scene a, or b, alone
        assert row[f"l2_at_cm_{s}s_low"] == pytest.approx(150 * (s + 1))


def test_an_entry_that_stands_twice_is_no_second_observation() -> None:
    two = [sample(1.0, 1) | {"token": "t0"}, sample(1.0) | {"token": "t1"}]
    once, thrice = (totals(two * times, resamples=10, seed=0) for times in (1, 3))
    assert (thrice["n"], thrice["collision_events_1s"]) == (6, 3)
    for name in ("collision_pct_1s", "intersection_pct_1s", "intersection_pct_avg"):
        assert [thrice[f"{name}_{end}"] for end in ("low", "high")] == [
            once[f"{name}_{end}"] for end in ("low", "high")
        ]


def planned(token: str, parsed: bool = True, tokens_total: int = 4) -> PlannedSample:
    return PlannedSample(token, np.ones((6, 2)), parsed, tokens_total // 2, tokens_total, (2, 2), np.array([0]))


def test_an_unparsed_plan_is_scored_as_standing_still() -> None:
    assert driven_m(planned("t")).tolist() == [[1, 1]] * 6
    assert driven_m(planned("t", parsed=False)).tolist() == [[0, 0]] * 6
    result = SampleScore(np.array([0.5, 1, 2]), np.zeros(3), np.array([0, 0.25, 1]))
    row = sample_row(planned("t", parsed=False), TRUTH, result)
    assert (row["parsed"], row["l2_at_cm_3s"], row["l2_m_1s"], row["intersection_2s"]) == (False, 0, 0.5, 0.25)


def test_what_a_protocol_does_not_know_and_what_was_not_recorded_is_none() -> None:
    short = plain_truth.truth(np.zeros((6, 2)), known_steps=5)
    row = sample_row(planned("t"), short, SampleScore(np.zeros(3), np.zeros(3), NO_RATE))
    assert row["intersection_1s"] is row["l2_at_cm_3s"] is None
    assert row["l2_at_cm_2s"] == pytest.approx(100 * 2**0.5)
    rows = [{"scene": "a", **row}, sample(1.0, 2) | dict.fromkeys([f"intersection_{s}s" for s in (1, 2, 3)])]
    total = totals(rows, resamples=10, seed=0)
    assert {total[f"intersection_{name}"] for name in ("events_3s", "pct_1s", "pct_avg", "pct_3s_low")} == {None}
    assert (total["n"], total["l2_cm_1s"], total["l2_at_cm_1s"]) == (2, 50, 200)  # the other alone has all three errors


def test_shares_of_steps_have_bootstrapped_intervals_and_count_samples_with_any() -> None:
    shares = [{"scene": scene, "collision_1s": 0.0, "collision_2s": x, "collision_3s": x} for scene, x in
              (("a", 0.5), ("b", 0.0), ("c", 0.25), ("d", 0.25))]  # fmt: skip
    row = totals([sample(1.0) | share for share in shares], resamples=100, seed=0)
    assert [row[f"collision_events_{s}s"] for s in (1, 2, 3)] == [0, 3, 3]
    assert [row[f"collision_pct_{s}s"] for s in (1, 2, 3)] == [0, 25, 25]
    assert (row["collision_pct_1s_low"], row["collision_pct_1s_high"]) == tuple(100 * p for p in wilson(0, 4))
    assert 0 < row["collision_pct_3s_low"] < 25 < row["collision_pct_3s_high"] <= 50


def test_the_error_at_a_time_is_not_the_mean_up_to_it() -> None:
    future_m = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=1)  # 2 m/s, straight on
    path_m = future_m + np.array([[0, 0], [0, 1], [0, 2], [3, 4], [0, 0], [0, 6]])
    assert errors_at_m(path_m, future_m).tolist() == [1, 5, 6]
    truth = replace(TRUTH, future_m=future_m)
    row = sample_row(replace(planned("t"), waypoints_m=path_m), truth, plain_truth.score("omnidrive", path_m, truth))
    assert [row[f"l2_m_{s}s"] for s in (1, 2, 3)] == [0.5, 2, pytest.approx(14 / 6)]
    assert [row[f"l2_at_cm_{s}s"] for s in (1, 2, 3)] == [100, 500, 600]


def test_a_ratio_row_counts_unparsed_incomplete_and_repeated_samples() -> None:
    plans = {"t0": planned("t0"), "t1": planned("t1", parsed=False), "t2": planned("t2", parsed=False)}
    listed = {"listed": 5, "repeated": 2, "incomplete": 3}
    zeros = ratio_row(plans, listed, {"t0": 2, "t1": 2}, FOUR, resamples=10, seed=0)
    skip = ratio_row(plans, listed, {"t0": 2, "t1": 2}, FOUR[:2], resamples=10, seed=0)
    counts = ("planned", "listed", "repeated", "incomplete", "not_counted", "unparsed", "skipped", "n")
    assert [zeros[name] for name in counts] == [3, 5, 2, 3, 1, 2, 0, 4]
    assert [skip[name] for name in counts] == [3, 5, 2, 3, 1, 2, 2, 2]
    assert (zeros["tokens_kept"], zeros["tokens_total"]) == (2, 4)


def test_a_bound_has_no_tokens() -> None:
    listed = {"listed": 1, "repeated": 0, "incomplete": 0}
    row = ratio_row({"t0": planned("t0", tokens_total=0)}, listed, {"t0": 1}, FOUR[:1], resamples=10, seed=0)
    assert row["tokens_kept"] is row["tokens_total"] is row["object_recall"] is None


def test_metrics_are_nested_by_ratio() -> None:
    row = {"pruned_percent": 25, **totals(FOUR, resamples=10, seed=0)}
    tree = metrics_tree([row])
    averages = {"l2_cm_avg": 400, "l2_at_cm_avg": 600, "collision_pct_avg": pytest.approx(25)}
    assert tree == {"25": {**averages, "intersection_pct_avg": 0, "n": 4}}
