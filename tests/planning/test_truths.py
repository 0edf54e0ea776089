import numpy as np
import pytest

from stages.planning.truths import truth_from_frame
from stages.scenes.base import Boxes, Frame

TURN = np.pi / 2
EGO_AT = np.array(
    [[0, -1, 0, 100], [1, 0, 0, 50], [0, 0, 1, 0], [0, 0, 0, 1.0]]
)  # at (100, 50), heading along global y


def boxes(*rows: tuple[str, float, float, float]) -> Boxes:
    """Cars of 2 x 4 m: instance, x, y, yaw in the global frame."""
    yaws = np.array([row[3] for row in rows])
    return Boxes(
        categories=("vehicle.car",) * len(rows),
        instances=tuple(row[0] for row in rows),
        centers_m=np.array([[row[1], row[2], 0.0] for row in rows]).reshape(-1, 3),
        sizes_wlh_m=np.tile([2.0, 4.0, 1.5], (len(rows), 1)),
        rotations_wxyz=np.stack([np.cos(yaws / 2), 0 * yaws, 0 * yaws, np.sin(yaws / 2)], axis=1),
    )


def frame(now: Boxes, *later: Boxes) -> Frame:
    future_m = np.full((6, 2), np.nan)
    future_m[: len(later)] = 0
    empty = np.eye(4)
    return Frame("token", "scene", "town", "", 0, EGO_AT, empty, {}, now, 0.0, future_m, later)


def test_a_car_is_seen_in_the_ego_frame() -> None:
    agents = truth_from_frame(frame(boxes(("a", 98, 60, TURN))), None).agents
    np.testing.assert_allclose(agents.centers_m[0, 0], [10, 2], atol=1e-9)  # 10 m ahead, 2 m to the left
    assert agents.yaws_rad[0, 0] == pytest.approx(0)  # heading as the ego
    assert agents.sizes_lw_m.tolist() == [[4, 2]]


def test_a_car_is_followed_by_its_instance() -> None:
    now, then = boxes(("a", 100, 60, TURN), ("b", 100, 70, TURN)), boxes(("b", 100, 75, TURN), ("c", 90, 50, TURN))
    agents = truth_from_frame(frame(now, then), None).agents
    assert agents.annotated[:, :3].tolist() == [[True, False, False], [True, True, False], [False, True, False]]
    np.testing.assert_allclose(agents.centers_m[1, :2], [[20, 0], [25, 0]], atol=1e-9)
    np.testing.assert_allclose(agents.centers_m[2, 1], [0, 10], atol=1e-9)


def test_an_empty_street_has_no_agents() -> None:
    agents = truth_from_frame(frame(boxes(), *[boxes()] * 6), None).agents
    assert agents.annotated.shape == (0, 7)


def test_steps_past_the_end_of_the_scene_are_not_valid() -> None:
    assert truth_from_frame(frame(boxes(), boxes(), boxes()), None).valid.tolist() == [True] * 2 + [False] * 4
