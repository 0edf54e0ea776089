"""Plans made without an image: the two bounds of every table, and the driver's blind floor."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.io import check_file, read_json
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
    return _blind_plan(frame, BOUNDS[name](frame))


def _blind_plan(frame: Frame, waypoints_m: NDArray[np.float64]) -> Plan:
    return Plan(frame.token, waypoints_m, format_answer(waypoints_m, 2), True, np.empty(0, np.int64), 0, 0, (0, 0))


@dataclass(frozen=True)
class BlindFloor:
    """The best guess from the current speed alone, by S speeds: what the driver's training scenes did on average."""

    speeds_mps: Float[np.ndarray, " S"]  # ascending
    waypoints_m: Float[np.ndarray, "S T 2"]

    def plan(self, frame: Frame) -> Plan:
        """The plan of the nearest speed; of two equally near ones the lower."""
        return _blind_plan(frame, self.waypoints_m[np.abs(self.speeds_mps - frame.speed_mps).argmin()])


def read_blind_floor(checkpoint: Path) -> BlindFloor:
    """The table beside a driver's weights. Raises DataError when it is missing or not a plan for each speed."""
    path, made_by = checkpoint / "blind_floor.json", "dvc repro train_driver"
    if path.is_file():  # beside weights of another run it would be another driver's
        check_file(checkpoint, path.name, made_by)
    table = read_json(path, made_by)
    try:
        floor = BlindFloor(np.array(table["speed_mps"], float), np.array(table["waypoints_m"], float))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            expected=f"speed_mps and waypoints_m in {path}", got=repr(error), fix=f"run `{made_by}`"
        ) from error
    S = floor.speeds_mps.size
    if not S or floor.speeds_mps.shape != (S,) or floor.waypoints_m.shape != (S, FUTURE_STEPS, 2):
        raise DataError(
            expected=f"a plan of {FUTURE_STEPS} waypoints for each speed in {path}",
            got=f"{floor.speeds_mps.shape} speeds and {floor.waypoints_m.shape} waypoints",
            fix=f"run `{made_by}`",
        )
    return floor
