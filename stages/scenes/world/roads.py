"""The road of a drawn scene, what stands along it, and the line that a vehicle drives on it.

Scene frame: the ego starts at the origin and looks along x; y is left, z up, metres. A point beside the road is (s, d):
s along the centre line, d to its left. The traffic keeps right: the ego's lane is the one at negative d.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LANE_D_M = -1.8  # middle of the ego's lane; the other lane is at +1.8
HALF_ROAD_M = 6.0  # two lanes of 3.6 m, and a parking bay of 2.4 m on each side
BAY_D_M = 4.8  # middle of the bay
HALF_WALK_M = 9.5  # outer edge of the pavement
BEHIND_M, AHEAD_M = 90.0, 330.0
GRID_M = 0.5
RAMP_M = 8.0  # curvature comes and goes over this length
FRONT_M = 3.53  # rear axle (the ego's origin) to the front bumper: 1.486 + 4.084 / 2, research/planning.md 1.1
SWERVE_M = 16.0  # length over which the ego leaves its lane, and comes back
JUNCTION_M = (4.0, 13.0)  # the crossing road, metres behind the stop line
CROSSING_M = (1.8, 5.4)  # the zebra, metres behind its stop line
LAST_M = 200.0  # nothing is placed further on; 12.5 s at full speed is 125 m
TURN_LIMIT_RAD = 1.1  # heading of the road stays within this, so that it never meets itself
_KINDS = ("red", "green", "pedestrian", "obstacle_right", "obstacle_left", "curve", "free")
_SHARES = (0.10, 0.11, 0.11, 0.16, 0.15, 0.28, 0.09)
CRUISE_MPS = 10.0
LATERAL_MPS2 = 2.6  # a bend of curvature k is driven at no more than sqrt(2.6 / |k|)
COMFORT_MPS2 = 1.8  # how hard the ego brakes for a bend
PASSING_M = 1.48  # from an obstacle's edge to the middle of the ego: half its width of 1.85 m, and air
_STEP_M = 0.25


class Bend(NamedTuple):
    """Constant curvature (1/m, positive to the left) between two places of the road."""

    start_m: float
    end_m: float
    curvature: float


class Fork(NamedTuple):
    """A side road that leaves the main road at `start_m`. It has no centre line: the ego never takes it."""

    start_m: float
    angle_rad: float  # to the main road, positive to the left
    half_width_m: float
    length_m: float
    curvature: float = 0.0


@dataclass(frozen=True, eq=False)
class Road:
    """A centre line on a regular grid of s, and its side roads as (centre line, half width)."""

    s_m: Array
    xy_m: Array  # (n, 2)
    yaw_rad: Array
    curvature: Array
    forks: tuple[Fork, ...]  # as drawn; one that would meet the main road again is no side road
    side_roads: tuple[tuple[Array, float], ...] = ()

    def yaw_at(self, s: Array | float) -> Array:
        return np.asarray(np.interp(s, self.s_m, self.yaw_rad))

    def place(self, s: Array | float, d: Array | float) -> Array:
        """Points (..., 2) of the scene frame at (s, d)."""
        yaw = self.yaw_at(s)
        x = np.interp(s, self.s_m, self.xy_m[:, 0]) - np.sin(yaw) * d
        y = np.interp(s, self.s_m, self.xy_m[:, 1]) + np.cos(yaw) * d
        return np.stack([x, y], axis=-1)

    def strip(self, s: tuple[float, float], d: tuple[float, float]) -> Array:
        """The ring (n, 2), counter-clockwise, of all points with s and d between the given ones; d is (right, left)."""
        along = np.linspace(s[0], s[1], max(2, int(np.ceil((s[1] - s[0]) / 2.0)) + 1))
        return np.concatenate([self.place(along, d[0]), self.place(along[::-1], d[1])])

    def main_ring(self) -> Array:
        """The main road from kerb to kerb."""
        return self.strip((-BEHIND_M, AHEAD_M), (-HALF_ROAD_M, HALF_ROAD_M))

    def pavement_ring(self, side: float) -> Array:
        """The pavement on one side (+1 left, -1 right)."""
        d = (HALF_ROAD_M, HALF_WALK_M) if side > 0 else (-HALF_WALK_M, -HALF_ROAD_M)
        return self.strip((-BEHIND_M, AHEAD_M), d)

    def side_rings(self) -> list[Array]:
        """Of each side road the ring of all points within its half width, measured across it."""
        rings = []
        for line, half_width_m in self.side_roads:
            along = np.gradient(line, axis=0)
            across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
            rings.append(np.concatenate([line - half_width_m * across, (line + half_width_m * across)[::-1]]))
        return rings

    def clearance_m(self, points: Array) -> Array:
        """Distance of each point (n, 2) to the edge of the nearest road; negative on it."""
        lines = [(self.xy_m[::4], HALF_ROAD_M), *self.side_roads]
        return np.min([_distance(points, line) - half for line, half in lines], axis=0)


def _distance(points: Array, line: Array) -> Array:
    return np.sqrt(((points[:, None] - line[None]) ** 2).sum(-1)).min(1)


def build_road(bends: tuple[Bend, ...], forks: tuple[Fork, ...]) -> Road:
    """Integrate the bends into a centre line, then attach the forks that stay clear of it."""
    s = np.arange(-BEHIND_M, AHEAD_M + GRID_M / 2, GRID_M)
    raw = np.zeros_like(s)
    for bend in bends:
        raw[(s >= bend.start_m) & (s < bend.end_m)] = bend.curvature
    curvature = _moving_mean(raw, int(RAMP_M / GRID_M))
    start = int(round(BEHIND_M / GRID_M))
    yaw = _integral(curvature)
    yaw = yaw - yaw[start]
    xy = np.stack([_integral(np.cos(yaw)), _integral(np.sin(yaw))], axis=1)
    main = Road(s, xy - xy[start], yaw, curvature, forks)
    lines = [(line, fork.half_width_m) for fork in forks if (line := _side_line(main, fork)) is not None]
    return replace(main, side_roads=tuple(lines))


def _moving_mean(values: Array, width: int) -> Array:
    return np.convolve(np.pad(values, width, mode="edge"), np.ones(width) / width, mode="same")[width:-width]


def _integral(values: Array) -> Array:
    """Trapezoid rule on the grid of s."""
    return np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2 * GRID_M)])


def _side_line(main: Road, fork: Fork) -> Array | None:
    """The centre line (n, 2) of a fork; None when it would meet the main road again."""
    along = np.arange(0.0, fork.length_m + 1.0, 2.0)
    yaw = main.yaw_at(fork.start_m) + fork.angle_rad + fork.curvature * along
    steps = np.stack([np.cos(yaw), np.sin(yaw)], axis=1) * 2.0
    line = main.place(fork.start_m, 0.0) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])
    apart = _distance(line, main.xy_m)
    left = int(np.argmax(apart > 1.3 * HALF_ROAD_M))  # from here on it must stay away
    if apart.max() < 2.5 * HALF_ROAD_M or apart[left:].min() < HALF_ROAD_M:
        return None
    return line


class Item(NamedTuple):
    """One thing that the ego has to drive by.

    `start_m` is the stop line (red, green, pedestrian), where the swerve begins (obstacle_*), or where the bend does.
    """

    kind: str
    start_m: float
    end_m: float
    amount: float  # red: seconds of waiting; pedestrian: speed, positive to the left; obstacle: d of its near edge
    variant: float  # uniform in [0, 1): how it looks, and whether a light is red from the start


def draw_road(rng: np.random.Generator, speed_mps: float) -> tuple[Road, tuple[Item, ...]]:
    """A road, and in order of s what is on it, from beyond the first stopping distance on, with gaps between."""
    items: list[Item] = []
    bends = [Bend(-1e3, 0.0, float(rng.uniform(-0.006, 0.006)))]
    forks: list[Fork] = []
    place_m = float(FRONT_M + speed_mps**2 / 5 + 0.7 * speed_mps + rng.uniform(2, 16))
    heading = 0.0
    while place_m < LAST_M:
        item = _draw_item(rng, str(rng.choice(_KINDS, p=_SHARES)), place_m)
        bend = _draw_bend(rng, item, heading)
        heading += bend.curvature * (bend.end_m - bend.start_m)
        items.append(item)
        bends.append(bend)
        forks.extend(_draw_forks(rng, item, bend))
        place_m = item.end_m + float(rng.uniform(4, 14))
    bends.append(Bend(LAST_M + 40, 1e4, float(-np.sign(heading) * 0.003)))
    return build_road(tuple(bends), tuple(forks)), tuple(items)


def _draw_item(rng: np.random.Generator, kind: str, start_m: float) -> Item:
    variant, amount = float(rng.uniform()), 0.0
    if kind in ("red", "green"):
        end_m, amount = start_m + 18.0, float(rng.uniform(0.5, 2.5))
    elif kind == "pedestrian":
        end_m, amount = start_m + 8.0, float(rng.uniform(1.2, 1.9) * rng.choice([-1, 1]))
    elif kind.startswith("obstacle"):
        end_m = start_m + 2 * SWERVE_M + (5.0 if variant < 0.4 else float(rng.uniform(7, 14)))
        amount = float(rng.uniform(-1.85, -1.35) if kind == "obstacle_right" else rng.uniform(-2.15, -1.75))
    else:
        end_m = start_m + float(rng.uniform(15, 32))
    return Item(kind, start_m, end_m, amount, variant)


def _draw_bend(rng: np.random.Generator, item: Item, heading: float) -> Bend:
    """Sharp for a curve, slight elsewhere, none at a crossing; to the side that stays within TURN_LIMIT_RAD."""
    if item.kind in ("red", "green"):
        return Bend(item.start_m - 4, item.end_m, 0.0)
    size = rng.uniform(0.010, 0.045) if item.kind == "curve" else rng.uniform(0.0, 0.005)
    length = item.end_m - item.start_m
    size = min(size, 1.3 / length)
    sign = float(rng.choice([-1, 1]))
    if abs(heading + sign * size * length) > TURN_LIMIT_RAD:
        sign = -float(np.sign(heading))
    return Bend(item.start_m, item.end_m, float(sign * size))


def _draw_forks(rng: np.random.Generator, item: Item, bend: Bend) -> list[Fork]:
    """A crossing road under each light; elsewhere now and then a side road, in a bend sometimes straight on."""
    if item.kind in ("red", "green"):
        middle = item.start_m + sum(JUNCTION_M) / 2
        half = (JUNCTION_M[1] - JUNCTION_M[0]) / 2 - 0.5
        return [Fork(middle, side * np.pi / 2, half, 70.0) for side in (-1, 1)]
    chance, side = rng.uniform(), float(rng.choice([-1, 1]))
    if item.kind == "curve" and chance < 0.4:
        away = -float(np.sign(bend.curvature))
        return [Fork(bend.start_m, away * float(rng.uniform(0.0, 0.25)), 3.2, 90.0)]
    if item.kind in ("free", "curve") and chance < 0.8:
        return [Fork(item.start_m, side * float(rng.uniform(0.6, 1.3)), 3.0, 70.0, side * 0.004)]
    return []


@dataclass(frozen=True, eq=False)
class Path:
    """A line by its own arc length `u_m`; u = 0 is beside s = 0."""

    u_m: Array
    s_m: Array
    d_m: Array
    xy_m: Array
    yaw_rad: Array
    curvature: Array
    limit_mps: Array
    swerve: Array  # +1 while it passes an obstacle on its right, -1 on its left, else 0

    def u_of_s(self, s_m: float) -> float:
        """Arc length beside the place s of the road."""
        return float(np.interp(s_m, self.s_m, self.u_m))

    def pose(self, u_m: Array) -> Array:
        """(..., 3) x, y and heading at u."""
        columns = (self.xy_m[:, 0], self.xy_m[:, 1], self.yaw_rad)
        return np.stack([np.interp(u_m, self.u_m, column) for column in columns], axis=-1)


def _smooth_step(x: Array) -> Array:
    """0 below 0, 1 above 1, with two continuous derivatives between."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (x * (6 * x - 15) + 10)


def lay_path(road: Road, items: Sequence[Item], offset_m: float, park_m: float | None = None) -> Path:
    """The line of a vehicle that starts `offset_m` left of its lane's middle and pulls into the bay at s = `park_m`."""
    s = np.arange(-BEHIND_M + 1, road.s_m[-1] - 1, _STEP_M)
    d = LANE_D_M + offset_m * (1 - _smooth_step(s / 20))
    swerve = np.zeros_like(s)
    for item in items:
        if item.kind.startswith("obstacle"):
            side = 1.0 if item.kind == "obstacle_right" else -1.0
            bump = _smooth_step((s - item.start_m) / SWERVE_M) * _smooth_step((item.end_m - s) / SWERVE_M)
            d = d + bump * (item.amount + side * PASSING_M - d)
            swerve[bump > 0.02] = side
    if park_m is not None:
        d = d + _smooth_step((s - park_m) / 14) * (-BAY_D_M - d)
    xy = road.place(s, d)
    u = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])
    u = u - np.interp(0.0, s, u)
    yaw = np.unwrap(np.arctan2(np.gradient(xy[:, 1], u), np.gradient(xy[:, 0], u)))
    curvature = _moving_mean(np.gradient(yaw, u), int(2 / _STEP_M))
    limit = np.minimum(np.sqrt(LATERAL_MPS2 / np.maximum(np.abs(curvature), 1e-4)), CRUISE_MPS)
    # To brake in time: v(u)^2 <= limit(w)^2 + 2 b (w - u) for every w ahead.
    reach = limit**2 + 2 * COMFORT_MPS2 * u
    limit = np.sqrt(np.minimum.accumulate(reach[::-1])[::-1] - 2 * COMFORT_MPS2 * u)
    return Path(u, s, d, xy, yaw, curvature, limit, swerve)
