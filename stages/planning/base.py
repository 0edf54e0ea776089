"""How well it drove: the contract of an open-loop protocol. One protocol, one file; file name = params key.

A protocol is a function `score`: it sees one plan and the truth of its sample and answers with numbers of that sample
alone; sums, counts and intervals are made of them in totals.py. "ego" is the ego (IMU) frame of the key frame:
x forward, y left, metres.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from stages.errors import ParamsError

HORIZON_STEPS = (2, 4, 6)  # 1, 2, 3 s at 2 Hz
FARTHEST_M = 1e6  # a driver may answer 1e300; squares and cells of this still are numbers


@dataclass(frozen=True)
class Agents:
    """A objects annotated now or in one of the next six key frames, in the ego frame of now."""

    categories: tuple[str, ...]  # nuScenes category names
    sizes_lw_m: Float[np.ndarray, "A 2"]  # length, width
    centers_m: Float[np.ndarray, "A 7 2"]  # step 0 is now; NaN where the object is not annotated
    yaws_rad: Float[np.ndarray, "A 7"]  # counter-clockwise from ego x

    @property
    def annotated(self) -> Bool[np.ndarray, "A 7"]:
        """True where the object has a box."""
        return np.isfinite(self.yaws_rad)


@dataclass(frozen=True)
class Truth:
    """All that a protocol needs of one sample."""

    token: str
    scene: str
    future_m: Float[np.ndarray, "6 2"]  # recorded ego positions, ego frame
    valid: Bool[np.ndarray, " 6"]  # True where the future is recorded
    agents: Agents
    drivable: Bool[np.ndarray, "1000 1000"] | None  # True is drivable; row = y left, column = x forward, 0.1 m


@dataclass(frozen=True)
class SampleScore:
    """Numbers of one sample at 1, 2, 3 s; all zero when the protocol does not count it."""

    l2_m: Float[np.ndarray, " 3"]
    collision: Bool[np.ndarray, " 3"]  # True is a collision up to then
    intersection: Bool[np.ndarray, " 3"]  # True is a drive off the drivable area up to then
    counted: bool


NOT_COUNTED = SampleScore(np.zeros(3), np.zeros(3, bool), np.zeros(3, bool), counted=False)


Score = Callable[[NDArray[np.floating], Truth], SampleScore]  # plan (6, 2) in the ego frame, truth

NO_PROTOCOLS = {
    "base",
    "geometry",
    "intervals",
    "plans",
    "ranks",
    "recalls",
    "tables",
    "totals",
    "truths",
}  # the other files of this folder


def available() -> list[str]:
    """Names of the protocols in this folder."""
    package = importlib.import_module("stages.planning")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in NO_PROTOCOLS)


def load(name: str) -> Score:
    """The function `score` of file `stages/planning/<name>.py`. Raises ParamsError when there is none."""
    names = available()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ParamsError(
            wanted=f"a protocol of stages/planning: {', '.join(names)}",
            came=repr(name) + (f" (did you mean {near[0]!r}?)" if near else ""),
            then="edit score_plans.protocol in params.yaml, or add the file",
        )
    return importlib.import_module(f"stages.planning.{name}").score
