"""The road of a drawn scene: one main road, and what leaves it.

Scene frame: the ego starts at the origin and looks along x; y is left, z up, metres. A point beside the road is (s, d):
s along the centre line, d to its left. The traffic keeps right: the ego's lane is the one at negative d.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Bend:
    """Constant curvature (1/m, positive to the left) between two places of the road."""

    start_m: float
    end_m: float
    curvature: float


@dataclass(frozen=True)
class Fork:
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
    side_roads: tuple[tuple[Array, float], ...] = ()

    def yaw_at(self, s: Array | float) -> Array:
        """Heading of the road at s."""
        return np.asarray(np.interp(s, self.s_m, self.yaw_rad))

    def curvature_at(self, s: Array | float) -> Array:
        """Curvature of the centre line at s, 1/m, positive to the left."""
        return np.asarray(np.interp(s, self.s_m, self.curvature))

    def place(self, s: Array | float, d: Array | float) -> Array:
        """Points (..., 2) of the scene frame at (s, d)."""
        yaw = self.yaw_at(s)
        x = np.interp(s, self.s_m, self.xy_m[:, 0]) - np.sin(yaw) * d
        y = np.interp(s, self.s_m, self.xy_m[:, 1]) + np.cos(yaw) * d
        return np.stack([x, y], axis=-1)

    def strip(self, s: tuple[float, float], d: tuple[float, float], every_m: float = 2.0) -> Array:
        """The ring (n, 2), counter-clockwise, of all points with s and d between the given ones; d is (right, left)."""
        along = np.linspace(s[0], s[1], max(2, int(np.ceil((s[1] - s[0]) / every_m)) + 1))
        return np.concatenate([self.place(along, d[0]), self.place(along[::-1], d[1])])

    def side_rings(self) -> list[Array]:
        """The ring of each side road."""
        return [ribbon(line, half_width) for line, half_width in self.side_roads]

    def clearance_m(self, points: Array) -> Array:
        """Distance of each point (n, 2) to the edge of the nearest road; negative on it."""
        lines = [(self.xy_m[::4], HALF_ROAD_M), *((line, half) for line, half in self.side_roads)]
        return np.min([_distance(points, line) - half for line, half in lines], axis=0)


def _distance(points: Array, line: Array) -> Array:
    return np.sqrt(((points[:, None] - line[None]) ** 2).sum(-1)).min(1)


def ribbon(line: Array, half_width_m: float) -> Array:
    """The ring of all points within `half_width_m` of a line (n, 2), measured across it."""
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    return np.concatenate([line - half_width_m * across, (line + half_width_m * across)[::-1]])


def build_road(bends: tuple[Bend, ...], forks: tuple[Fork, ...]) -> Road:
    """Integrate the bends into a centre line, then attach the forks that stay clear of it."""
    s = np.arange(-BEHIND_M, AHEAD_M + GRID_M / 2, GRID_M)
    raw = np.zeros_like(s)
    for bend in bends:
        raw[(s >= bend.start_m) & (s < bend.end_m)] = bend.curvature
    width = int(RAMP_M / GRID_M)
    curvature = np.convolve(np.pad(raw, width, mode="edge"), np.ones(width) / width, mode="same")[width:-width]
    start = int(round(BEHIND_M / GRID_M))
    yaw = _integral(curvature)
    yaw = yaw - yaw[start]
    xy = np.stack([_integral(np.cos(yaw)), _integral(np.sin(yaw))], axis=1)
    main = Road(s, xy - xy[start], yaw, curvature)
    lines = [(line, fork.half_width_m) for fork in forks if (line := _side_line(main, fork)) is not None]
    return Road(main.s_m, main.xy_m, main.yaw_rad, main.curvature, tuple(lines))


def _integral(values: Array) -> Array:
    """Trapezoid rule on the grid of s."""
    steps = (values[1:] + values[:-1]) / 2 * GRID_M
    return np.concatenate([[0.0], np.cumsum(steps)])


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
