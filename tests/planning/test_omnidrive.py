from dataclasses import replace

import numpy as np
import plain_truth
import pytest
from numpy.typing import NDArray
from plain_truth import NOBODY, score

from stages.core.errors import ParamsError
from stages.core.plugins import available
from stages.planning import base, omnidrive
from stages.planning.base import Agents, Truth

ROAD = np.ones((1000, 1000), bool)
STRAIGHT_M = np.stack([np.arange(1, 7) * 2.0, np.zeros(6)], axis=1)  # 4 m/s
STILL_M = np.zeros((6, 2))


def standing(x_m: float, y_m: float, category: str = "vehicle.car", yaw_rad: float = 0.0) -> Agents:
    """One 4 x 2 m object that stays where it is."""
    centers_m = np.tile([float(x_m), float(y_m)], (1, 7, 1))
    return plain_truth.agents([category], np.array([[4.0, 2.0]]), centers_m, np.full((1, 7), yaw_rad))


def truth(
    agents: Agents = NOBODY, future_m: NDArray = STILL_M, drivable: NDArray | None = ROAD, known_steps: int = 6
) -> Truth:
    return replace(plain_truth.truth(future_m, agents, known_steps=known_steps), drivable=drivable)


@pytest.mark.parametrize("gone", [0, slice(1, 7)])
def test_a_car_counts_only_where_it_is_annotated_now_and_then(gone: int | slice) -> None:
    car = standing(10, 0)
    car.ego.yaws_rad[:, gone] = np.nan
    car.ego.centers_m[:, gone] = np.nan
    assert not score("omnidrive", STRAIGHT_M, truth(car)).collision.any()


def test_the_footprint_turns_with_a_step_of_a_metre_and_not_with_a_shorter_one() -> None:
    # Turned left, the footprint reaches 3.53 m to the left of its point; unturned only 0.93 m.
    car = standing(0, 4.6, yaw_rad=0.0)
    slow_m, fast_m = (np.array([[0.0, step]] * 6) for step in (0.99, 1.01))
    assert not score("omnidrive", slow_m, truth(car)).collision.any()
    assert score("omnidrive", fast_m, truth(car)).collision[0]


def test_leaving_the_drivable_area_holds_from_its_step_on() -> None:
    until_10_m = ROAD.copy()
    until_10_m[:, 600:] = False  # columns: x forward
    # The box reaches 1.49 + 2.04 = 3.53 m ahead: 9.53 m at the third step, 11.53 m at the fourth.
    assert score("omnidrive", STRAIGHT_M, truth(drivable=until_10_m)).intersection.tolist() == [False, True, True]


@pytest.mark.parametrize(("axis", "edge", "steps_off"), [(1, 595, 4), (1, 596, 3), (0, 509, 6), (0, 510, 0)])
def test_the_box_reaches_to_cell_595_ahead_at_6_m_and_to_cell_509_at_the_left(
    axis: int, edge: int, steps_off: int
) -> None:
    road = ROAD.copy()
    road[(slice(None), slice(edge, None)) if axis else slice(edge, None)] = False
    now, *steps = omnidrive.off_road(STRAIGHT_M, road)
    assert sum(steps) == steps_off
    assert now == (axis == 0 and edge == 509)


def test_left_is_a_higher_row_of_the_drivable_area() -> None:
    right_only = ROAD.copy()
    right_only[520:] = False
    left_m, right_m = STRAIGHT_M + [0, 3], STRAIGHT_M - [0, 3]
    assert score("omnidrive", left_m, truth(drivable=right_only)).intersection.all()
    assert not score("omnidrive", right_m, truth(drivable=right_only)).intersection.any()


def test_a_sample_that_starts_off_the_road_scores_no_intersection_and_is_counted() -> None:
    counted = score("omnidrive", STRAIGHT_M, truth(drivable=~ROAD))
    assert counted is not None
    assert not counted.intersection.any()


def test_a_plan_beyond_the_raster_sticks_to_its_border() -> None:
    at_the_edge = standing(49, 0)
    assert score("omnidrive", np.tile([1e300, 0.0], (6, 1)), truth(at_the_edge)).collision.all()
    assert not score("omnidrive", np.tile([-1e300, 0.0], (6, 1)), truth(at_the_edge)).collision.any()


def test_a_protocol_is_found_by_its_file_name() -> None:
    assert available("protocols") == ["bevplanner", "impromptu", "omnidrive", "stp3", "uniad", "vad"]
    assert base.load("omnidrive") is omnidrive
    with pytest.raises(ParamsError, match="did you mean 'omnidrive'"):
        base.load("omnidrve")
