"""What the lidar and the car's own bus would have recorded of a drawn scene."""

import numpy as np
from jaxtyping import Float

from stages.scenes.world.actors import Actor
from stages.scenes.world.roads import Array
from stages.scenes.world.rules import TICK_S
from stages.scenes.world.scenario import Scenario
from stages.scenes.world.setting import FAR_M

LIDAR_M = (0.985793, 0.0, 1.84019)  # the LIDAR_TOP of the nuScenes car; its x axis points right, its y axis ahead
WHEELBASE_M = 2.588
STEERING_RATIO = 15.2  # steering wheel to road wheels
_BEARINGS = 24  # samples across an object, to tell how much of it is hidden
_GROUND_POINTS = 700


def visible_share(scenario: Scenario, step: int) -> Array:
    """Share of each actor's width that no nearer, not much lower actor hides from the car; 0 beyond FAR_M."""
    actors = scenario.actors
    x, y, _ = scenario.ego_poses[step]
    corners = np.array([_corners(actor, step) for actor in actors]).reshape(len(actors), 4, 2) - (x, y)
    distance = np.linalg.norm(corners.mean(1), axis=1)
    bearing = np.arctan2(corners.mean(1)[:, 1], corners.mean(1)[:, 0])
    aside = np.angle(np.exp(1j * (np.arctan2(corners[..., 1], corners[..., 0]) - bearing[:, None])))
    low, high = aside.min(1), aside.max(1)
    heights = np.array([actor.size_wlh_m[2] for actor in actors])
    shares = np.zeros(len(actors))
    for index in np.flatnonzero(distance < FAR_M):
        looks = bearing[index] + np.linspace(low[index], high[index], _BEARINGS)
        before = (distance < distance[index] - 0.5) & (heights > 0.6 * heights[index])
        away = np.angle(np.exp(1j * (looks[:, None] - bearing[before])))
        hidden = ((away > low[before]) & (away < high[before])).any(1)
        shares[index] = 1.0 - hidden.mean()
    return shares


def _corners(actor: Actor, step: int) -> Array:
    x, y, yaw = actor.poses[step]
    w, length, _ = actor.size_wlh_m
    local = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (length / 2, w / 2)
    c, s = np.cos(yaw), np.sin(yaw)
    return local @ np.array([[c, s], [-s, c]]) + (x, y)


def lidar_counts(scenario: Scenario, step: int, shares: Array) -> np.ndarray:
    """Points on each actor: by its size, its distance and how much of it is seen; at least one."""
    x, y, _ = scenario.ego_poses[step]
    away = np.array([np.hypot(actor.poses[step][0] - x, actor.poses[step][1] - y) for actor in scenario.actors])
    faces = np.array([actor.size_wlh_m[1] * actor.size_wlh_m[2] for actor in scenario.actors])
    return np.clip(2500 * faces * shares / np.maximum(away, 3) ** 2, 1, 400).astype(int)


def lidar_points(scenario: Scenario, step: int) -> Float[np.ndarray, "n 5"]:
    """x, y, z in the LIDAR_TOP frame, intensity and ring: the ground in rings, and points on each actor's box."""
    rng = np.random.default_rng((scenario.seed, 3, step))
    shares = visible_share(scenario, step)
    counts = lidar_counts(scenario, step, shares)
    ring = rng.integers(0, 14, _GROUND_POINTS)
    radius = LIDAR_M[2] / np.tan(np.deg2rad(24 - 1.6 * ring))
    angle = rng.uniform(-np.pi, np.pi, _GROUND_POINTS)
    clouds = [
        np.column_stack(
            [
                radius * np.cos(angle),
                radius * np.sin(angle),
                np.full(_GROUND_POINTS, -LIDAR_M[2]),
                rng.uniform(2, 25, _GROUND_POINTS),
                ring,
            ]
        )
    ]
    for actor, share, count in zip(scenario.actors, shares, counts, strict=True):
        if share > 0:
            clouds.append(_box_points(rng, actor, scenario, step, int(count)))
    return np.concatenate(clouds).astype(np.float32)


def _box_points(rng: np.random.Generator, actor: Actor, scenario: Scenario, step: int, count: int) -> Array:
    """Points inside the box near its surface, in the LIDAR_TOP frame."""
    w, length, h = actor.size_wlh_m
    local = rng.uniform(-0.49, 0.49, (count, 3))
    axis = rng.integers(0, 2, count)
    local[np.arange(count), axis] = np.sign(local[np.arange(count), axis]) * 0.49
    local = local * (length, w, h) + (0, 0, h / 2)
    x, y, yaw = actor.poses[step]
    ego_x, ego_y, ego_yaw = scenario.ego_poses[step]
    c, s = np.cos(yaw), np.sin(yaw)
    away = local[:, :2] @ np.array([[c, s], [-s, c]]) + (x - ego_x, y - ego_y)
    c, s = np.cos(ego_yaw), np.sin(ego_yaw)
    ego = away @ np.array([[c, -s], [s, c]]) - LIDAR_M[:2]
    return np.column_stack(
        [-ego[:, 1], ego[:, 0], local[:, 2] - LIDAR_M[2], rng.uniform(5, 60, count), rng.integers(8, 32, count)]
    )


def bus_track(scenario: Scenario, every_s: float) -> tuple[Array, Array, Array, Array, Array]:
    """Times (s), poses (n, 3) in the scene frame, speed, acceleration and curvature of the ego, `every_s` apart."""
    times = np.arange(0.0, (scenario.steps - 1) * 0.5 + every_s / 2, every_s)
    ticks = np.arange(len(scenario.traffic.ego_u_m)) * TICK_S
    u = np.interp(times, ticks, scenario.traffic.ego_u_m)
    speed = np.interp(times, ticks, scenario.traffic.ego_mps)
    acceleration = np.interp(times, ticks, scenario.traffic.ego_mps2)
    return times, scenario.path.pose(u), speed, acceleration, np.interp(u, scenario.path.u_m, scenario.path.curvature)
