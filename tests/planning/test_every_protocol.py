"""What holds for every protocol that planning/base.py finds, and what sets them apart."""

from dataclasses import replace

import numpy as np
import plain_truth
import pytest
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.plugins import available
from stages.planning.base import Agents, SampleScore, Truth, load

PROTOCOLS = available("protocols")
STILL_M = np.zeros((6, 2))
STRAIGHT_M = np.stack([np.arange(1, 7) * 2.0, np.zeros(6)], axis=1)  # 4 m/s
SIDE_M = STRAIGHT_M + [0, 6]
CURB_M = np.array([[[-50.0, 4.0], [50.0, 4.0]]])  # along the road, 4 m to the left
MEANS, ANY, AT = {"stp3", "vad", "impromptu"}, {"omnidrive", "bevplanner"}, {"uniad"}


def cars(x_m: float, y_m: float = 0.0, category: str = "vehicle.car", **marks: int) -> Agents:
    """One 4 x 2 m object that stays where it is."""
    centers_m = np.tile([float(x_m), float(y_m)], (1, 7, 1))
    return plain_truth.agents([category], np.array([[4.0, 2.0]]), centers_m, np.zeros((1, 7)), **marks)


def scored(name: str, plan_m: NDArray[np.float64], truth: Truth) -> SampleScore:
    score = plain_truth.score(name, plan_m, truth)
    assert score is not None
    return score


def test_the_averages_of_each_are_known() -> None:
    assert sorted(MEANS | ANY | AT) == PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_recorded_future_has_no_error_and_no_event(name: str) -> None:
    """Through a car and over a curb too: what the driver did himself is not held against the plan."""
    truth = plain_truth.truth(SIDE_M, cars(10, 6), curbs_m=CURB_M + [0, 2])
    score = scored(name, SIDE_M, truth)
    assert score.l2_m.tolist() == [0, 0, 0]
    assert score.collision.tolist() == [0, 0, 0]
    assert not np.nan_to_num(score.intersection).any()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_collision_is_averaged_as_the_protocol_does(name: str) -> None:
    """A car whose back is at 8 m: the front of the ego, 2.5 or 3.5 m ahead of the point, reaches it at 6 m, step 3."""
    found = scored(name, STRAIGHT_M, plain_truth.truth(STILL_M, cars(10))).collision
    hits = np.array([0, 0, 1, 1, 1, 1])
    expected = {
        **dict.fromkeys(MEANS, [hits[:2].mean(), hits[:4].mean(), hits.mean()]),
        **dict.fromkeys((*ANY, *AT), [0, 1, 1]),
    }
    assert found.tolist() == expected[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_l2_is_averaged_as_the_protocol_does(name: str) -> None:
    off_m = STRAIGHT_M + np.array([[0.0, step] for step in (1, 2, 3, 4, 5, 6)])
    found = scored(name, off_m, plain_truth.truth(STRAIGHT_M)).l2_m
    assert found.tolist() == ([2, 4, 6] if name in AT else [1.5, 2.5, 3.5])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_left_is_left(name: str) -> None:
    left_m, right_m = STRAIGHT_M + [0, 3], STRAIGHT_M - [0, 3]
    truth = plain_truth.truth(STILL_M, cars(10, 3))
    assert scored(name, left_m, truth).collision.any()
    assert not scored(name, right_m, truth).collision.any()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_answer_far_beyond_the_raster_is_still_a_number(name: str) -> None:
    score = scored(name, np.tile([1e300, -1e300], (6, 1)), plain_truth.truth(STILL_M, cars(10)))
    assert np.isfinite(score.l2_m).all()
    assert np.isfinite(score.collision).all()


PEOPLE = {"stp3", "vad", "impromptu"}
HITS = {  # category -> who counts it
    "vehicle.car": {*PROTOCOLS},
    "vehicle.emergency.police": {"omnidrive", "stp3", "impromptu"},
    "human.pedestrian.adult": PEOPLE,
    "human.pedestrian.stroller": {"stp3", "impromptu"},
    "movable_object.barrier": {"impromptu"},
    "animal": {"impromptu"},
}


@pytest.mark.parametrize("category", HITS)
def test_categories_go_by_name(category: str) -> None:
    truth = plain_truth.truth(STILL_M, cars(10, category=category))
    assert {name for name in PROTOCOLS if scored(name, STRAIGHT_M, truth).collision.any()} == HITS[category]


def test_what_is_hardly_visible_counts_for_all_but_uniad_and_stp3() -> None:
    truth = plain_truth.truth(STILL_M, cars(10, seen=1))
    found = {name for name in PROTOCOLS if scored(name, STRAIGHT_M, truth).collision.any()}
    assert found == {*PROTOCOLS} - {"uniad", "stp3"}


def test_stp3_keeps_what_it_has_seen_before() -> None:
    hidden_later = replace(cars(10, seen=1), seen=np.ones(1, bool))
    assert scored("stp3", STRAIGHT_M, plain_truth.truth(STILL_M, hidden_later)).collision.any()


def test_what_no_beam_hit_does_not_count_for_three() -> None:
    truth = plain_truth.truth(STILL_M, cars(10, points=0))
    found = {name for name in PROTOCOLS if scored(name, STRAIGHT_M, truth).collision.any()}
    assert found == {"omnidrive", "uniad", "stp3"}
    by_radar = replace(truth, agents=replace(truth.agents, radar_points=np.ones((1, 7), int)))
    assert scored("bevplanner", STRAIGHT_M, by_radar).collision.any()
    not_told = plain_truth.truth(STILL_M, cars(10, points=-1))
    assert all(scored(name, STRAIGHT_M, not_told).collision.any() for name in PROTOCOLS)


def test_vad_leaves_out_what_is_far_now() -> None:
    far_m = np.stack([np.arange(1, 7) * 6.0, np.zeros(6)], axis=1)
    truth = plain_truth.truth(STILL_M, cars(34))
    assert {name for name in PROTOCOLS if not scored(name, far_m, truth).collision.any()} == {"vad"}


def test_a_car_that_comes_later_counts_where_each_frame_stands_for_itself() -> None:
    agents = cars(10)
    for track in (agents.ego, agents.level, agents.lidar):
        track.centers_m[:, 0] = track.yaws_rad[:, 0] = np.nan
    truth = plain_truth.truth(STILL_M, agents)
    found = {name for name in PROTOCOLS if scored(name, STRAIGHT_M, truth).collision.any()}
    assert found == {"uniad", "stp3", "impromptu", "bevplanner"}


def test_who_knows_of_leaving_the_road() -> None:
    road = np.ones((1000, 1000), bool)
    road[540:] = False  # from 4 m to the left on
    truth = plain_truth.truth(STILL_M, drivable=road, curbs_m=CURB_M)
    found = {name: scored(name, STRAIGHT_M + [0, 3.5], truth).intersection for name in PROTOCOLS}
    assert {name for name, value in found.items() if np.isnan(value).all()} == {*PROTOCOLS} - ANY
    assert {tuple(found[name]) for name in ANY} == {(1.0, 1.0, 1.0)}


def test_who_counts_a_future_cut_short_and_a_past_cut_short() -> None:
    whole, short, first = (plain_truth.truth(STRAIGHT_M, **cut) for cut in ({}, {"known_steps": 3}, {"past_steps": 1}))
    assert {name for name in PROTOCOLS if load(name).prepare(whole) is not None} == {*PROTOCOLS}
    assert {name for name in PROTOCOLS if load(name).prepare(short) is not None} == {"uniad"}
    assert {name for name in PROTOCOLS if load(name).prepare(first) is None} == {"stp3"}


def test_uniad_counts_a_missing_step_as_no_error_and_no_collision() -> None:
    score = scored("uniad", STRAIGHT_M, plain_truth.truth(STILL_M, cars(10), known_steps=3))
    assert score.l2_m.tolist() == [4, 0, 0]
    assert score.collision.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_without_a_map_who_needs_one_says_so(name: str) -> None:
    truth = replace(plain_truth.truth(STILL_M), drivable=None, curbs_m=None)
    if name in ANY:
        with pytest.raises(DataError, match="add the map expansion"):
            scored(name, STRAIGHT_M, truth)
    else:
        scored(name, STRAIGHT_M, truth)
