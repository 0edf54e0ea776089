"""The line a vehicle drives along the road: lane, swerves around obstacles, and the speed that its bends allow."""

from dataclasses import dataclass

import numpy as np

from stages.scenes.world.program import SWERVE_M, Item
from stages.scenes.world.roads import BAY_D_M, BEHIND_M, LANE_D_M, Array, Road

CRUISE_MPS = 10.0
LATERAL_MPS2 = 2.6  # a bend of curvature k is driven at no more than sqrt(2.6 / |k|)
COMFORT_MPS2 = 1.8  # how hard the ego brakes for a bend
PASSING_M = 1.48  # from an obstacle's edge to the middle of the ego: half its width of 1.85 m, and air
_STEP_M = 0.25


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
        x = np.interp(u_m, self.u_m, self.xy_m[:, 0])
        y = np.interp(u_m, self.u_m, self.xy_m[:, 1])
        return np.stack([x, y, np.interp(u_m, self.u_m, self.yaw_rad)], axis=-1)


def smooth_step(x: Array) -> Array:
    """0 below 0, 1 above 1, with two continuous derivatives between."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (x * (6 * x - 15) + 10)


def lay_path(road: Road, items: tuple[Item, ...], offset_m: float, park_m: float | None = None) -> Path:
    """The line of a vehicle that starts `offset_m` left of its lane's middle and pulls into the bay at s = `park_m`."""
    s = np.arange(-BEHIND_M + 1, road.s_m[-1] - 1, _STEP_M)
    d = LANE_D_M + offset_m * (1 - smooth_step(s / 20))
    swerve = np.zeros_like(s)
    for item in items:
        if item.kind.startswith("obstacle"):
            side = 1.0 if item.kind == "obstacle_right" else -1.0
            bump = smooth_step((s - item.start_m) / SWERVE_M) * smooth_step((item.end_m - s) / SWERVE_M)
            d = d + bump * (item.amount + side * PASSING_M - d)
            swerve[bump > 0.02] = side
    if park_m is not None:
        d = d + smooth_step((s - park_m) / 14) * (-BAY_D_M - d)
    return _measure(road, s, d, swerve)


def _measure(road: Road, s: Array, d: Array, swerve: Array) -> Path:
    xy = road.place(s, d)
    steps = np.linalg.norm(np.diff(xy, axis=0), axis=1)
    u = np.concatenate([[0.0], np.cumsum(steps)])
    u = u - np.interp(0.0, s, u)
    yaw = np.unwrap(np.arctan2(np.gradient(xy[:, 1], u), np.gradient(xy[:, 0], u)))
    width = int(2 / _STEP_M)
    curvature = np.convolve(np.pad(np.gradient(yaw, u), width, mode="edge"), np.ones(width) / width, mode="same")[
        width:-width
    ]
    limit = np.minimum(np.sqrt(LATERAL_MPS2 / np.maximum(np.abs(curvature), 1e-4)), CRUISE_MPS)
    # To brake in time: v(u)^2 <= limit(w)^2 + 2 b (w - u) for every w ahead.
    reach = limit**2 + 2 * COMFORT_MPS2 * u
    limit = np.sqrt(np.minimum.accumulate(reach[::-1])[::-1] - 2 * COMFORT_MPS2 * u)
    return Path(u, s, d, xy, yaw, curvature, limit, swerve)
