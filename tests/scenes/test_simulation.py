"""The drawn scenes as numbers: who drives where, and whether the ego keeps the rules."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import affinity

from stages.core.params import read_params
from stages.scenes.world import scenario as scenarios_module
from stages.scenes.world.recording import lay_out
from stages.scenes.world.roads import CRUISE_MPS, FRONT_M, Bend, build_road
from stages.scenes.world.scenario import CLEAR, CONDITIONS, EVENTS, LOCATIONS, Scenario, draw_condition, simulate
from stages.scenes.world.tables import scene_names
from stages.scenes.world.traffic import GREEN, RED, Light, idm

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
        monkeypatch.setattr(scenarios_module, "_SHARES", tuple(shares))
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
            gap = scenario.path.u_of_s(scenario.program.items[index].start_m) - scenario.traffic.ego_u_m - FRONT_M
            passing = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
            assert all(states[tick] == GREEN for tick in passing)
            red_lights += int((states == RED).any())
    assert red_lights > 6


def test_a_swerve_goes_away_from_its_obstacle(scenarios: list[Scenario]) -> None:
    shifts: dict[int, list[float]] = {1: [], -1: []}
    for scenario in scenarios:
        d = np.interp(scenario.traffic.ego_u_m, scenario.path.u_m, scenario.path.d_m)
        side = np.interp(scenario.traffic.ego_u_m, scenario.path.u_m, scenario.path.swerve)
        for sign in shifts:
            if (side == sign).sum() > 20:
                shifts[sign].append(float((d[side == sign] + 1.8).mean()))
    assert np.mean(shifts[1]) > 0.5  # to the left, past an obstacle on the right
    assert np.mean(shifts[-1]) < -0.5


def test_a_bend_to_the_left_turns_left() -> None:
    road = build_road((Bend(0.0, 50.0, 0.02),), ())
    assert road.yaw_at(60.0) == pytest.approx(1.0, abs=0.02)
    assert road.place(60.0, 0.0)[1] > 20
    np.testing.assert_allclose(road.place(0.0, 2.0), [0, 2], atol=1e-9)


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
