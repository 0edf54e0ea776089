"""The pictures of the drawn world: classes, geometry, weather, equal bytes."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from stages.masks.base import CLASSES
from stages.scenes.base import CAMERAS
from stages.scenes.world import camera, shapes, weather
from stages.scenes.world.drawing import draw
from stages.scenes.world.scenario import CLEAR, CONDITIONS, GLARE, NIGHT, RAIN, Scenario, simulate
from stages.scenes.world.setting import FAR_M, light_places

SIZE_PX = (448, 252)
SEEDS = (5, 20, 24)  # vehicles, people and barriers in sight
cv2.setNumThreads(1)
simulated = lru_cache(maxsize=None)(simulate)


@lru_cache(maxsize=64)
def _drawn(seed: int, condition: str, channel: str = "CAM_FRONT") -> tuple[np.ndarray, np.ndarray]:
    return draw(replace(simulated(seed, 14), condition=condition), 2, channel, SIZE_PX)


def test_classes_and_cameras_are_those_of_the_masks_and_of_nuscenes() -> None:
    numbers = [getattr(shapes, name.upper()) for name in CLASSES]
    assert [shapes.BACKGROUND, *numbers] == list(range(6))
    assert set(camera.RIGS) == set(CAMERAS)


def test_last_bits_of_another_cpu_change_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sines, exponentials and lengths that are one unit in the last place larger give the same pictures."""

    def larger(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        return lambda *args, **more: np.nextafter(function(*args, **more), np.inf)

    def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
        return [draw(replace(simulate(5, 4), condition=name), 3, "CAM_FRONT", (336, 196)) for name in CONDITIONS[1:]]

    usual = drawn()
    for function in (camera.rays, camera.ego_from_camera, weather._ground_light, weather._sun_tiles, weather._wetness):
        function.cache_clear()
    for name in ("sin", "cos", "exp", "hypot", "tan"):
        monkeypatch.setattr(np, name, larger(getattr(np, name)))
    for ours, theirs in zip(usual, drawn(), strict=True):
        assert ours[0].shape == (196, 336, 3)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_third_of_a_front_image_is_foreground_and_every_class_is_seen() -> None:
    maps = np.stack([_drawn(seed, CLEAR)[1] for seed in (0, *SEEDS)])
    assert 0.25 < (maps > 0).mean() < 0.55
    assert np.bincount(maps.ravel(), minlength=6).min() > 0
    highest = min(int(np.flatnonzero((classes == shapes.ROAD).any(1))[0]) for classes in maps)
    assert 0.47 * SIZE_PX[1] - 2 < highest < 0.47 * SIZE_PX[1] + 8  # the road reaches the horizon


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


def test_what_is_drawn_lies_within_the_boxes() -> None:
    drawn, covered = np.zeros(6), np.zeros(6)
    for seed, channel in itertools.product(SEEDS, CAMERAS[:3]):
        scenario, classes = simulated(seed, 14), _drawn(seed, CLEAR, channel)[1]
        for name, prefix in (("vehicle", "vehicle"), ("human", "human"), ("barrier", "movable")):
            boxes, number = np.zeros(classes.shape, np.uint8), 1 + CLASSES.index(name)
            for actor in scenario.actors:
                if not actor.category.startswith(prefix):
                    continue
                corners = _pixels(scenario, 2, channel, _box_corners(actor.poses[2], actor.size_wlh_m))
                if (corners[:, 2] > camera.NEAR_M).all() and corners[:, 2].min() < FAR_M:
                    hull = cv2.convexHull(np.rint(np.clip(corners[:, :2], -4000, 4000)).astype(np.int32))
                    cv2.fillConvexPoly(boxes, hull, 1)
                elif (corners[:, 2] > camera.NEAR_M).any():
                    boxes[:] = 1  # one that is cut by the image plane: not judged
            drawn[number] += (classes == number).sum()
            covered[number] += ((classes == number) & (cv2.dilate(boxes, np.ones((3, 3), np.uint8)) > 0)).sum()
    assert (covered >= 0.98 * drawn).all()
    assert np.count_nonzero(drawn) == 3


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(("state", "seeds"), [(1, (0, 2, 18)), (4, (12, 11, 19))])
def test_a_light_shows_its_colour_in_every_condition(state: int, seeds: tuple[int, ...], condition: str) -> None:
    """Red (state 1) pixels are reddest, green (4) greenest, where the lamp of the near light is."""
    for seed in seeds:
        scenario = replace(simulated(seed, 8), condition=condition)
        for index, item in enumerate(scenario.program.items):
            if item.kind not in ("red", "green") or scenario.light_state(index, 0) != state:
                continue
            pose, height, _ = light_places(scenario.road, item)[0]
            lamp_m = np.array([[pose[0], pose[1], height + 2.3 * (5 / 6 if state == 1 else 1 / 6)]])
            u, v, depth = _pixels(scenario, 0, "CAM_FRONT", lamp_m)[0]
            if not (5 < depth < 22 and 10 < u < 438 and 5 < v < 240):
                continue
            image, classes = draw(scenario, 0, "CAM_FRONT", SIZE_PX)
            color, channel = image[int(v), int(u)].astype(int), 0 if state == 1 else 1
            if classes[int(v), int(u)] == shapes.SIGN:
                assert color.argmax() == channel
                assert color[channel] > color[1 - channel] + 60
                return
    raise AssertionError("no light near by")


def test_polygons_behind_the_camera_are_cut_at_the_near_plane() -> None:
    square = np.array([(-1.0, 0, -1), (1, 0, -1), (1, 0, 3), (-1, 0, 3)])
    np.testing.assert_array_equal(camera.clip_near(square + [0, 0, 5]), square + [0, 0, 5])
    assert len(camera.clip_near(square - [0, 0, 5])) == 0
    assert camera.clip_near(square)[:, 2].tolist() == pytest.approx([camera.NEAR_M, 3, 3, camera.NEAR_M])


def test_weather_changes_no_pixel_of_the_class_map_and_things_that_matter_still_stand_out() -> None:
    """The colours of vehicles and people differ from the road's by a good part of what they do in clear weather."""
    contrast = dict.fromkeys(CONDITIONS, 0.0)
    for seed, name in itertools.product(SEEDS[1:], CONDITIONS):
        image, classes = _drawn(seed, name)
        np.testing.assert_array_equal(classes, _drawn(seed, CLEAR)[1])
        thing = np.isin(classes, (shapes.VEHICLE, shapes.HUMAN)) & (np.arange(SIZE_PX[1])[:, None] > 118)
        contrast[name] += float(np.abs(image[thing] - image[classes == shapes.ROAD].mean(0)).mean())
    assert min(contrast.values()) > 0.35 * contrast[CLEAR] > 0


def test_a_night_is_dark_its_lamps_are_not_rain_is_grey_and_glare_dazzles_ahead() -> None:
    for seed in SEEDS[1:]:
        clear, night, rain = (_drawn(seed, name)[0] for name in (CLEAR, NIGHT, RAIN))
        assert night.mean() < 0.6 * clear.mean()
        assert np.percentile(night, 99.9) > 150
        assert np.ptp(rain.astype(int), axis=-1).mean() < 0.8 * np.ptp(clear.astype(int), axis=-1).mean()
    ahead, behind = (
        _drawn(5, GLARE, channel)[0].mean() / _drawn(5, CLEAR, channel)[0].mean()
        for channel in ("CAM_FRONT", "CAM_BACK")
    )
    assert ahead > 1.15 * behind
    lamp, wall = weather.lit(np.full((2, 3), 200.0), np.array([True, False]), np.array([[-30.0, 5.0]] * 2))
    assert lamp.tolist() == [200.0] * 3
    assert wall.max() < 80
