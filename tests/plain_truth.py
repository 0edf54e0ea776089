"""Truths made by hand: objects given in the ego frame of a car whose lidar sits at its IMU and looks along y."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.planning import base
from stages.planning.base import Agents, SampleScore, Track, Truth


def in_lidar(points_m: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points x forward, y left as x right, y forward."""
    return np.stack([-points_m[..., 1], points_m[..., 0]], axis=-1)


def in_ego(points_m: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points x right, y forward as x forward, y left."""
    return np.stack([points_m[..., 1], -points_m[..., 0]], axis=-1)


def agents(
    categories: Sequence[str],
    sizes_lw_m: NDArray[np.floating],
    centers_m: NDArray[np.floating],
    yaws_rad: NDArray[np.floating],
    seen: int = 4,
    points: int = 10,
) -> Agents:
    """Objects of the ego frame, all with the same visibility and lidar points."""
    numbers = [np.full(yaws_rad.shape, number) for number in (seen, points, 0)]
    ego, lidar = Track(centers_m, yaws_rad), Track(in_lidar(centers_m), yaws_rad + np.pi / 2)
    return Agents(tuple(categories), sizes_lw_m, ego, ego, lidar, np.full(len(yaws_rad), seen != 1), *numbers)


NOBODY = agents([], np.empty((0, 2)), np.empty((0, 7, 2)), np.empty((0, 7)))


def truth(
    future_m: NDArray[np.floating],
    agents: Agents = NOBODY,
    drivable: NDArray[np.bool_] | None = None,
    known_steps: int = 6,
    past_steps: int = 2,
    token: str = "token",
    scene: str = "scene",
    curbs_m: NDArray[np.floating] | None = None,
) -> Truth:
    """A sample whose first `known_steps` of `future_m` are recorded. Without `drivable` all ground is."""
    valid = np.arange(6) < known_steps
    future_m = np.where(valid[:, None], future_m, np.nan)
    drivable = np.ones((1000, 1000), bool) if drivable is None else drivable
    curbs_m = np.empty((0, 2, 2)) if curbs_m is None else curbs_m
    return Truth(token, scene, future_m, valid, agents, drivable, in_lidar(future_m), past_steps, curbs_m)


def score(protocol: str, plan_ego_m: NDArray[np.floating], truth: Truth) -> SampleScore | None:
    """The numbers of one plan; None when the protocol does not count the sample."""
    module = base.load(protocol)
    prepared = module.prepare(truth)
    return None if prepared is None else module.judge(plan_ego_m, prepared)
