"""Paths in the front camera: pixels that one can compute by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from one_frame import make_frame

from stages.report.ahead import on_image, paths_ahead
from stages.scenes.base import Camera, Frame

HEIGHT_M = 1.5  # of the lens above the road
CAMERA_FROM_EGO = np.array([[0, -1, 0, 0], [0, 0, -1, HEIGHT_M], [1, 0, 0, 0], [0, 0, 0, 1.0]])
GREY = np.full((100, 200, 3), 128, np.uint8)


def frame_with(global_from_ego: np.ndarray) -> tuple[Frame, Camera]:
    frame = replace(make_frame(Path("front.png")), global_from_ego=global_from_ego)
    intrinsic = np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]])
    seen = CAMERA_FROM_EGO @ np.linalg.inv(global_from_ego)
    return frame, replace(frame.cameras["CAM_FRONT"], size_px=(200, 100), intrinsic=intrinsic, camera_from_global=seen)


def test_a_point_ten_metres_ahead_and_one_to_the_left() -> None:
    moved = np.eye(4)
    moved[:3, 3] = (700, -30, 2)
    for global_from_ego in (np.eye(4), moved):
        frame, camera = frame_with(global_from_ego)
        pixels, depth_m = on_image(np.array([[10.0, 1.0]]), camera, frame)
        np.testing.assert_allclose(pixels, [[90, 65]])  # 100 - 100 * 1 / 10, 50 + 100 * 1.5 / 10
        np.testing.assert_allclose(depth_m, [10])


def test_the_path_is_drawn_where_it_leads_and_nothing_behind_the_car() -> None:
    frame, camera = frame_with(np.eye(4))
    straight = np.array([[4.0 * i, 0] for i in range(1, 7)])
    standing = replace(frame, future_ego_m=np.zeros((6, 2)))
    picture = paths_ahead(GREY, standing, {"none": straight}, camera)
    assert (picture[60:95, 98:103] != 128).any(axis=2).all(axis=0).any()
    assert (picture[:50] == 128).all()
    assert (paths_ahead(GREY, standing, {"none": -straight}, camera) == GREY).all()
    assert (GREY == 128).all()


def test_a_plan_that_is_no_number_draws_nothing_strange() -> None:
    frame, camera = frame_with(np.eye(4))
    picture = paths_ahead(GREY, replace(frame, future_ego_m=np.full((6, 2), np.nan)), {}, camera)
    assert (picture == GREY).all()
