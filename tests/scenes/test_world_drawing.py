"""The pictures of the drawn world: classes, geometry, determinism."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from stages.masks.base import CLASSES
from stages.scenes.base import CAMERAS
from stages.scenes.world import camera, shapes
from stages.scenes.world.drawing import draw
from stages.scenes.world.roads import LANE_D_M
from stages.scenes.world.scenario import CONDITIONS, Scenario, simulate
from stages.scenes.world.setting import FAR_M, light_places

SIZE_PX = (448, 252)
cv2.setNumThreads(1)


def test_classes_are_numbered_as_the_masks_are() -> None:
    numbers = {
        "road": shapes.ROAD,
        "vehicle": shapes.VEHICLE,
        "human": shapes.HUMAN,
        "sign": shapes.SIGN,
        "barrier": shapes.BARRIER,
    }
    assert numbers == {name: 1 + i for i, name in enumerate(CLASSES)}
    assert shapes.BACKGROUND == 0


def test_the_cameras_are_those_of_nuscenes() -> None:
    assert set(camera.RIGS) == set(CAMERAS)


def test_the_same_frame_is_drawn_with_the_same_bytes() -> None:
    one = [a.tobytes() for a in draw(simulate(5, 8), 3, "CAM_FRONT", SIZE_PX)]
    other = [a.tobytes() for a in draw(simulate(5, 8), 3, "CAM_FRONT", SIZE_PX)]
    assert one == other


@pytest.mark.parametrize("size_px", [(448, 252), (336, 196)])
def test_image_and_classes_have_the_size_asked_for(size_px: tuple[int, int]) -> None:
    image, classes = draw(simulate(5, 8), 0, "CAM_BACK", size_px)
    assert image.shape == (size_px[1], size_px[0], 3)
    assert classes.shape == (size_px[1], size_px[0])
    assert image.dtype == classes.dtype == np.uint8


def test_a_third_of_a_front_image_is_foreground_and_every_class_is_seen() -> None:
    shares, seen = [], np.zeros(6)
    for seed in range(0, 60, 3):
        classes = draw(simulate(seed, 12), 6, "CAM_FRONT", SIZE_PX)[1]
        shares.append((classes > 0).mean())
        seen += np.bincount(classes.ravel(), minlength=6)
    assert 0.25 < np.mean(shares) < 0.5
    assert seen.min() > 0


def test_the_background_is_not_flat() -> None:
    for seed in range(4):
        image, classes = draw(simulate(seed, 8), 2, "CAM_FRONT", SIZE_PX)
        grey = image.mean(-1)
        for rows in (slice(0, 60), slice(60, 118)):
            assert grey[rows][classes[rows] == 0].std() > 10


def test_the_road_lies_below_the_horizon_and_reaches_it() -> None:
    classes = draw(simulate(2, 8), 0, "CAM_FRONT", SIZE_PX)[1]
    rows = np.flatnonzero((classes == shapes.ROAD).any(1))
    horizon = 0.47 * SIZE_PX[1]
    assert horizon - 2 < rows[0] < horizon + 8
    assert rows[-1] == SIZE_PX[1] - 1


def _pixels(scenario: Scenario, step: int, channel: str, points: np.ndarray) -> np.ndarray:
    """(n, 3): pixel and depth of points (n, 3) of the scene frame; written apart from the drawing."""
    rig = camera.RIGS[channel]
    x, y, yaw = scenario.ego_poses[step]
    ahead = np.cos(yaw) * (points[:, 0] - x) + np.sin(yaw) * (points[:, 1] - y) - rig.translation_m[0]
    left = -np.sin(yaw) * (points[:, 0] - x) + np.cos(yaw) * (points[:, 1] - y) - rig.translation_m[1]
    turn = np.deg2rad(rig.yaw_deg)
    depth = np.cos(turn) * ahead + np.sin(turn) * left
    aside = np.sin(turn) * ahead - np.cos(turn) * left
    focal = rig.focal_widths * SIZE_PX[0]
    u = SIZE_PX[0] / 2 + focal * aside / depth
    v = 0.47 * SIZE_PX[1] + focal * (rig.translation_m[2] - points[:, 2]) / depth
    return np.stack([u, v, depth], axis=1)


def _box_corners(actor_pose: np.ndarray, size_wlh_m: tuple[float, float, float]) -> np.ndarray:
    w, length, h = size_wlh_m
    local = np.array([(a, b) for a in (-length / 2, length / 2) for b in (-w / 2, w / 2)])
    x, y, yaw = actor_pose
    flat = local @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]) + (x, y)
    return np.concatenate([np.column_stack([flat, np.full(4, z)]) for z in (0.0, h)])


@pytest.mark.parametrize("channel", CAMERAS)
@pytest.mark.parametrize("name", ["vehicle", "human", "barrier"])
def test_what_is_drawn_lies_within_the_boxes(channel: str, name: str) -> None:
    prefix = {"vehicle": "vehicle", "human": "human", "barrier": "movable"}[name]
    number = 1 + CLASSES.index(name)
    drawn = covered = 0
    for seed, step in ((0, 5), (1, 9), (20, 5), (24, 3), (26, 12)):
        scenario = simulate(seed, 14)
        classes = draw(scenario, step, channel, SIZE_PX)[1] == number
        boxes = np.zeros(classes.shape, np.uint8)
        for actor in scenario.actors:
            if not actor.category.startswith(prefix):
                continue
            corners = _pixels(scenario, step, channel, _box_corners(actor.poses[step], actor.size_wlh_m))
            if (corners[:, 2] > camera.NEAR_M).all() and corners[:, 2].min() < FAR_M:
                hull = cv2.convexHull(np.rint(np.clip(corners[:, :2], -4000, 4000)).astype(np.int32))
                cv2.fillConvexPoly(boxes, hull, 1)
            elif (corners[:, 2] > camera.NEAR_M).any():
                boxes[:] = 1  # one that is cut by the image plane: not judged
        wider = cv2.dilate(boxes, np.ones((3, 3), np.uint8)) > 0
        drawn += int(classes.sum())
        covered += int((classes & wider).sum())
    assert covered >= 0.98 * drawn


def test_a_leader_near_by_fills_its_box() -> None:
    found = 0
    for seed in range(60):
        scenario = simulate(seed, 8)
        if scenario.traffic.lead_u_m is None:
            continue
        lead = scenario.actors[0]
        corners = _pixels(scenario, 0, "CAM_FRONT", _box_corners(lead.poses[0], lead.size_wlh_m))
        if lead.category != "vehicle.car" or not 4 < corners[:, 2].min() < 18 or np.ptp(corners[:, 0]) > 120:
            continue
        low, high = corners[:, :2].min(0).astype(int), corners[:, :2].max(0).astype(int)
        inside = draw(scenario, 0, "CAM_FRONT", SIZE_PX)[1][low[1] : high[1], low[0] : high[0]]
        assert (inside == shapes.VEHICLE).mean() > 0.6
        found += 1
    assert found >= 3


def test_a_point_ahead_to_the_left_is_drawn_on_the_left() -> None:
    scenario = simulate(2, 8)
    x, y, yaw = scenario.ego_poses[0]
    matrix = camera.camera_from_scene(camera.RIGS["CAM_FRONT"], scenario.ego_poses[0])
    ahead_left = np.array([x + 10 * np.cos(yaw) - 2 * np.sin(yaw), y + 10 * np.sin(yaw) + 2 * np.cos(yaw), 1.6, 1.0])
    pixel = camera.project((matrix @ ahead_left)[:3], camera.intrinsic(camera.RIGS["CAM_FRONT"], SIZE_PX))
    np.testing.assert_allclose(pixel, [224 - 353.92 * 2 / 8.3, 118.44], atol=1e-6)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(("state", "channel"), [(1, 0), (4, 1)])
def test_a_light_shows_its_colour_in_every_condition(state: int, channel: int, condition: str) -> None:
    """Red (state 1) pixels are reddest, green (4) greenest, where the lamp of the near light is."""
    found = 0
    for seed in range(80):
        scenario = replace(simulate(seed, 8), condition=condition)
        for index, item in enumerate(scenario.program.items):
            if item.kind not in ("red", "green") or scenario.light_state(index, 0) != state:
                continue
            pose, height, _ = light_places(scenario.road, item)[0]
            lamp_z = height + 2.3 * (5 / 6 if state == 1 else 1 / 6)
            u, v, depth = _pixels(scenario, 0, "CAM_FRONT", np.array([[pose[0], pose[1], lamp_z]]))[0]
            if not (5 < depth < 22 and 10 < u < 438 and 5 < v < 240):
                continue
            image, classes = draw(scenario, 0, "CAM_FRONT", SIZE_PX)
            color = image[int(v), int(u)].astype(int)
            if classes[int(v), int(u)] == shapes.SIGN:
                assert color.argmax() == channel
                assert color[channel] > color[1 - channel] + 60
                found += 1
        if found == 3:
            break
    assert found == 3


def test_polygons_behind_the_camera_are_cut_at_the_near_plane() -> None:
    square = np.array([(-1.0, 0, -1), (1, 0, -1), (1, 0, 3), (-1, 0, 3)])
    points = np.concatenate([square + [0, 0, 5], square - [0, 0, 5], square])
    cut, ring = camera.clip_near(points, np.arange(3).repeat(4))
    assert ring.tolist() == [0] * 4 + [2] * 4
    np.testing.assert_array_equal(cut[:4], square + [0, 0, 5])
    assert cut[4:, 2].min() == pytest.approx(camera.NEAR_M)
    nothing, none = camera.clip_near(np.empty((0, 3)), np.empty(0, int))
    assert (len(nothing), len(none)) == (0, 0)


def test_the_lane_ahead_is_free_road_in_a_free_frame() -> None:
    """Right of the middle line, left of the bay: where the ego will be is road."""
    for seed in range(30):
        scenario = simulate(seed, 8)
        if scenario.event(0) == "free" and scenario.speed_mps[0] > 5:
            classes = draw(scenario, 0, "CAM_FRONT", SIZE_PX)[1]
            spots = np.column_stack([scenario.road.place(np.array([7.0, 9.0, 11.0]), LANE_D_M), np.zeros(3)])
            for u, v, _ in _pixels(scenario, 0, "CAM_FRONT", spots):
                assert classes[int(v), int(u)] == shapes.ROAD
            return
    raise AssertionError("no free frame in thirty scenes")
