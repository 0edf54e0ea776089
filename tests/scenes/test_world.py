"""The drawn world: who drives where, whether the ego keeps the rules, and its pictures in every weather."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from shapely import affinity

from stages.core.params import read_params
from stages.masks.base import CLASSES
from stages.scenes.base import CAMERAS
from stages.scenes.world import camera, shapes, weather
from stages.scenes.world.drawing import FAR_M, draw, light_places
from stages.scenes.world.recording import lay_out, scene_names
from stages.scenes.world.roads import CRUISE_MPS, FRONT_M
from stages.scenes.world.scenario import (
    CLEAR,
    CONDITIONS,
    EVENTS,
    GLARE,
    GREEN,
    LOCATIONS,
    NIGHT,
    RAIN,
    RED,
    Light,
    Scenario,
    draw_condition,
    idm,
    simulate,
)

SIZE_PX = (448, 252)
SEEDS = (5, 20, 24)  # vehicles, people and barriers in sight
cv2.setNumThreads(1)
simulated = lru_cache(maxsize=None)(simulate)
STEPS = 20


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [simulate(seed, STEPS) for seed in range(36)]


def test_every_event_speed_and_location_occurs_and_none_prevails(scenarios: list[Scenario]) -> None:
    frames = Counter(scenario.event(step) for scenario in scenarios for step in range(STEPS))
    assert set(frames) == set(EVENTS)
    assert min(frames.values()) > 0.02 * frames.total()
    assert max(frames.values()) < 0.35 * frames.total()
    assert np.histogram([scenario.speed_mps[0] for scenario in scenarios], bins=5, range=(0, 10))[0].min() >= 3
    assert [scenario.location for scenario in scenarios[8:12]] == list(LOCATIONS)


def test_conditions_have_their_shares_and_the_committed_val_scenes_hold_each() -> None:
    counts = Counter(draw_condition(seed) for seed in range(1500))
    assert counts[CLEAR] / 1500 == pytest.approx(0.64, abs=0.03)
    assert all(counts[condition] / 1500 == pytest.approx(0.12, abs=0.02) for condition in CONDITIONS[1:])
    committed = read_params(Path(__file__).parents[2] / "params.yaml").make_world
    first = committed.seed + committed.train_scenes
    assert {draw_condition(first + index) for index in range(committed.val_scenes)} == set(CONDITIONS)


def test_a_seed_gives_the_same_scene_again_in_every_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = simulate(3, 8)
    for shares in np.eye(4):
        monkeypatch.setattr("stages.scenes.world.scenario._SHARES", tuple(shares))
        other = simulate(3, 8)
        assert other.condition == CONDITIONS[int(shares.argmax())]
        assert other.description.startswith("" if other.condition == CLEAR else other.condition.capitalize())
        assert other.ego_poses.tobytes() == usual.ego_poses.tobytes()
        assert [actor.look for actor in other.actors] == [actor.look for actor in usual.actors]


def _rectangle(pose: np.ndarray, length: float, width: float, forward: float = 0.0) -> shapely.Polygon:
    box = shapely.box(forward - length / 2, -width / 2, forward + length / 2, width / 2)
    return affinity.translate(affinity.rotate(box, pose[2], (0, 0), use_radians=True), pose[0], pose[1])


def test_the_ego_stays_on_the_road_and_touches_no_vehicle(scenarios: list[Scenario]) -> None:
    for scenario in scenarios[:12]:
        road = shapely.Polygon(scenario.road.main_ring()).buffer(0)
        for step in range(0, STEPS + 6, 2):
            ego = _rectangle(scenario.ego_poses[step], 4.084, 1.85, 1.485793)  # the box of the OmniDrive protocol
            assert road.contains(ego), (scenario.seed, step)
            for actor in scenario.actors:
                if not actor.category.startswith("human"):
                    box = _rectangle(actor.poses[step], actor.size_wlh_m[1], actor.size_wlh_m[0])
                    assert not ego.intersects(box), (scenario.seed, step, actor.category)


def test_nobody_speeds_brakes_hard_or_passes_a_red_light(scenarios: list[Scenario]) -> None:
    assert min(scenario.traffic.ego_mps2.min() for scenario in scenarios) > -4.0
    assert max(scenario.traffic.ego_mps.max() for scenario in scenarios) <= CRUISE_MPS + 0.1
    red_lights = 0
    for scenario in scenarios:
        for index, states in scenario.traffic.lights.items():
            gap = scenario.path.u_of_s(scenario.items[index].start_m) - scenario.traffic.ego_u_m - FRONT_M
            passing = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
            assert all(states[tick] == GREEN for tick in passing)
            red_lights += int((states == RED).any())
    assert red_lights > 6


def test_a_driver_keeps_its_distance_and_a_light_waits_for_the_first_to_stop() -> None:
    assert idm(8.0, 10.0, 1e6, 0.0) > 0.5
    assert idm(8.0, 10.0, 15.0, 0.0) < -3
    assert idm(12.0, 10.0, 1e6, 0.0) < -2
    light = Light(line_u=0.0, wait_s=1.0, state=RED, turns=False)
    for _ in range(100):
        light.step(20.0, 5.0)
    assert light.state == RED
    for _ in range(50):
        light.step(2.0, 0.0)
    assert light.state == GREEN


def test_scenes_on_one_map_stay_apart(scenarios: list[Scenario]) -> None:
    spans: dict[str, list[tuple[float, float]]] = {location: [] for location in LOCATIONS}
    for site in lay_out(scene_names(12), scenarios[:12]):
        points = site.to_map(site.scenario.road.main_ring())
        assert points.min() >= 99
        spans[site.scenario.location].append((points[:, 0].min(), points[:, 0].max()))
    for found in map(sorted, spans.values()):
        assert all(right[0] - left[1] > 150 for left, right in zip(found, found[1:], strict=False))


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
    for function in (camera.rays, camera.ego_from_camera, weather._ground_light, weather._sun_tiles):
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
        for index, item in enumerate(scenario.items):
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
