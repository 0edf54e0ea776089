"""The drawn scenes as numbers: who drives where, and whether the ego keeps the rules."""

from collections import Counter

import numpy as np
import pytest
import shapely
from shapely import affinity

from stages.scenes.world.roads import CRUISE_MPS, FRONT_M, Bend, build_road
from stages.scenes.world.scenario import EVENTS, LOCATIONS, Scenario, simulate
from stages.scenes.world.setting import main_ring
from stages.scenes.world.traffic import GREEN, RED, TICKS_PER_STEP, Light, idm

STEPS = 20


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [simulate(seed, STEPS) for seed in range(100)]


def _rectangle(pose: np.ndarray, length: float, width: float, forward: float = 0.0) -> shapely.Polygon:
    box = shapely.box(forward - length / 2, -width / 2, forward + length / 2, width / 2)
    return affinity.translate(affinity.rotate(box, pose[2], (0, 0), use_radians=True), pose[0], pose[1])


def _ego(scenario: Scenario, step: int) -> shapely.Polygon:
    """The ego's box of the OmniDrive protocol."""
    return _rectangle(scenario.ego_poses[step], 4.084, 1.85, 1.485793)


def test_a_seed_gives_the_same_scene_again() -> None:
    one, other = simulate(7, STEPS), simulate(7, STEPS)
    assert one.ego_poses.tobytes() == other.ego_poses.tobytes()
    assert [a.poses.tobytes() for a in one.actors] == [a.poses.tobytes() for a in other.actors]
    assert simulate(8, STEPS).ego_poses.tobytes() != one.ego_poses.tobytes()


def test_every_event_occurs_in_a_hundred_scenes_and_none_prevails(scenarios: list[Scenario]) -> None:
    frames = Counter(scenario.event(step) for scenario in scenarios for step in range(STEPS))
    assert set(frames) == set(EVENTS)
    assert min(frames.values()) > 0.02 * frames.total()
    assert max(frames.values()) < 0.35 * frames.total()


def test_first_speeds_are_spread_over_zero_to_ten(scenarios: list[Scenario]) -> None:
    counts, _ = np.histogram([scenario.speed_mps[0] for scenario in scenarios], bins=5, range=(0, 10))
    assert counts.sum() == 100
    assert counts.min() >= 10


def test_locations_take_turns() -> None:
    assert [simulate(seed, 8).location for seed in range(8, 12)] == list(LOCATIONS)


def test_the_future_is_seen_from_the_ego(scenarios: list[Scenario]) -> None:
    scenario = scenarios[3]
    for step in (0, STEPS - 1):
        future = scenario.future_ego_m(step)
        x, y, yaw = scenario.ego_poses[step]
        back = np.array([x, y]) + future @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        np.testing.assert_allclose(back, scenario.ego_poses[step + 1 : step + 7, :2])
    assert future.shape == (6, 2)


def test_speed_is_what_the_poses_say(scenarios: list[Scenario]) -> None:
    for scenario in scenarios[:10]:
        ticks = scenario.path.pose(scenario.traffic.ego_u_m)
        measured = np.linalg.norm(np.diff(ticks[:, :2], axis=0), axis=1) / 0.05
        np.testing.assert_allclose(measured, scenario.traffic.ego_mps[:-1], atol=0.35)
        np.testing.assert_array_equal(scenario.speed_mps, scenario.traffic.ego_mps[::TICKS_PER_STEP][:STEPS])


def test_the_ego_stays_on_the_road_and_touches_no_vehicle(scenarios: list[Scenario]) -> None:
    for scenario in scenarios[:40]:
        road = shapely.Polygon(main_ring(scenario.road)).buffer(0)
        for step in range(STEPS + 6):
            ego = _ego(scenario, step)
            assert road.contains(ego), (scenario.seed, step)
            for actor in scenario.actors:
                if not actor.category.startswith("human"):
                    box = _rectangle(actor.poses[step], actor.size_wlh_m[1], actor.size_wlh_m[0])
                    assert not ego.intersects(box), (scenario.seed, step, actor.category)


def test_nobody_brakes_harder_than_a_driver_would(scenarios: list[Scenario]) -> None:
    assert min(scenario.traffic.ego_mps2.min() for scenario in scenarios) > -4.0
    assert max(scenario.traffic.ego_mps.max() for scenario in scenarios) <= CRUISE_MPS + 0.1


def test_no_red_light_is_passed(scenarios: list[Scenario]) -> None:
    seen = 0
    for scenario in scenarios:
        for index, states in scenario.traffic.lights.items():
            gap = scenario.path.u_of_s(scenario.program.items[index].start_m) - scenario.traffic.ego_u_m - FRONT_M
            passing = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
            assert all(states[tick] == GREEN for tick in passing)
            seen += int(np.count_nonzero(states == RED) > 0)
    assert seen > 20


def test_a_swerve_goes_away_from_its_obstacle(scenarios: list[Scenario]) -> None:
    shifts: dict[str, list[float]] = {"obstacle_right": [], "obstacle_left": []}
    for scenario in scenarios:
        d = np.interp(scenario.traffic.ego_u_m, scenario.path.u_m, scenario.path.d_m)
        side = np.interp(scenario.traffic.ego_u_m, scenario.path.u_m, scenario.path.swerve)
        for name, sign in (("obstacle_right", 1), ("obstacle_left", -1)):
            if (side == sign).sum() > 20:
                shifts[name].append(float((d[side == sign] + 1.8).mean()))
    assert min(map(len, shifts.values())) > 10
    assert np.mean(shifts["obstacle_right"]) > 0.5
    assert np.mean(shifts["obstacle_left"]) < -0.5


def test_a_bend_to_the_left_turns_left() -> None:
    road = build_road((Bend(0.0, 50.0, 0.02),), ())
    assert road.yaw_at(60.0) == pytest.approx(1.0, abs=0.02)
    assert road.place(60.0, 0.0)[1] > 20
    np.testing.assert_allclose(road.place(0.0, 2.0), [0, 2], atol=1e-9)


def test_idm_keeps_its_distance() -> None:
    assert idm(8.0, 10.0, 1e6, 0.0) > 0.5
    assert idm(8.0, 10.0, 15.0, 0.0) < -3
    assert idm(8.0, 10.0, 40.0, 10.0) > 0
    assert idm(12.0, 10.0, 1e6, 0.0) < -2


def test_a_light_turns_green_some_time_after_the_first_has_stopped() -> None:
    light = Light(line_u=0.0, wait_s=1.0, state=RED, turns=False)
    for _ in range(100):
        light.step(20.0, 5.0)
    assert light.state == RED
    for _ in range(50):
        light.step(2.0, 0.0)
    assert light.state == GREEN
