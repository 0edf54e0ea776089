"""The two bounds of every table: a plan that looks at nothing, and the plan that was driven."""

import numpy as np
from numpy.typing import NDArray

from stages.scenes.base import FUTURE_STEPS, STEP_S, Frame
from stages.vla.answers import format_answer
from stages.vla.base import Plan


def constant_velocity(frame: Frame) -> NDArray[np.float64]:
    """(T, 2) straight on at the current speed."""
    steps = np.arange(1, FUTURE_STEPS + 1)
    return np.stack([frame.speed_mps * STEP_S * steps, np.zeros(FUTURE_STEPS)], axis=1)


def recorded_future(frame: Frame) -> NDArray[np.float64]:
    """(T, 2) as driven; past the end of the scene the last known position (no protocol scores such a sample)."""
    path = np.vstack([np.zeros(2), frame.future_ego_m])
    last_known = np.maximum.accumulate(np.where(np.isfinite(path).all(axis=1), np.arange(len(path)), 0))
    return path[last_known][1:]


BOUNDS = {"constant_velocity": constant_velocity, "recorded_future": recorded_future}


def plan_bound(name: str, frame: Frame) -> Plan:
    """The plan of one bound; no visual tokens are involved."""
    waypoints_m = BOUNDS[name](frame)
    return Plan(frame.token, waypoints_m, format_answer(waypoints_m, 2), True, np.empty(0, np.int64), 0, 0, (0, 0))
