import numpy as np
import pytest
from scipy import stats

from stages.planning.intervals import bootstrap, paired_difference, wilson


@pytest.mark.parametrize(("events", "n"), [(0, 112), (1, 112), (8, 6019), (36, 6019), (112, 112), (3, 4)])
def test_wilson_is_that_of_scipy(events: int, n: int) -> None:
    theirs = stats.binomtest(events, n).proportion_ci(method="wilson")
    assert wilson(events, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert wilson(0, 0) == (0, 1)  # nothing counted says nothing


def test_the_bootstrap_of_single_frames_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(30, 10, 100)
    frames = [str(i) for i in range(100)]  # a scene each
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert bootstrap(values, frames, 4000, seed=1) == pytest.approx((theirs.low, theirs.high), abs=0.3)


def test_scenes_are_drawn_whole_and_weigh_as_many_frames_as_they_have() -> None:
    # Two scenes of equal frames: the mean of a resample is 0, 1 or 2, never between.
    assert bootstrap(np.array([0.0] * 9 + [2.0] * 9), ["a"] * 9 + ["b"] * 9, 500, seed=0) == (0, 2)
    # Nine frames of 0 and one of 10: resamples are aa (0), ab (1) and bb (10).
    assert bootstrap(np.array([0.0] * 9 + [10.0]), ["a"] * 9 + ["b"], 500, seed=0) == (0, 10)


def test_one_scene_alone_falls_back_to_its_frames() -> None:
    low, high = bootstrap(np.arange(10.0), ["a"] * 10, 500, seed=0)
    assert low < 4.5 < high


def test_equal_seeds_give_equal_intervals() -> None:
    values, scenes = np.random.default_rng(0).normal(size=40), [str(i // 5) for i in range(40)]
    assert bootstrap(values, scenes, 200, seed=3) == bootstrap(values, scenes, 200, seed=3)
    assert bootstrap(values, scenes, 200, seed=3) != bootstrap(values, scenes, 200, seed=4)


def test_a_paired_difference_does_not_see_what_both_share() -> None:
    scenes = [str(i // 5) for i in range(40)]
    hard = np.random.default_rng(0).normal(30, 20, 40)
    mean, low, high = paired_difference(hard + 1, hard, scenes, 200, seed=0)
    assert (mean, low, high) == pytest.approx((1, 1, 1))
    assert paired_difference(hard, hard, scenes, 200, seed=0) == (0, 0, 0)
    unpaired = bootstrap(hard + 1, scenes, 200, seed=0)
    assert unpaired[1] - unpaired[0] > 5
