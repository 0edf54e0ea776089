"""The contract of an open-loop protocol. One protocol, one file; file name = params key.

A protocol is two functions that give the numbers of one plan from the truth of its sample: `prepare` does what is the
same for all plans of a sample, once, and `judge` the rest. Sums, counts and intervals are made of them in scoring.py.
Frames, all of the key frame and in metres:
- "ego": of the IMU, x forward, y left; "level" is the same without the ego's pitch and roll.
- "lidar": of LIDAR_TOP, x right, y forward.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray

from stages.core import plugins

HORIZON_STEPS = (2, 4, 6)  # 1, 2, 3 s at 2 Hz
FARTHEST_M = 1e6  # a driver may answer 1e300; squares and cells of this still are numbers


@dataclass(frozen=True)
class Track:
    """Where A objects are in one frame, now (step 0) and in the next six key frames; NaN without an annotation."""

    centers_m: Float[np.ndarray, "A 7 2"]
    yaws_rad: Float[np.ndarray, "A 7"]  # counter-clockwise from the x axis


@dataclass(frozen=True)
class Agents:
    """A objects annotated now or in one of the next six key frames. Protocols differ in the frame and the choice."""

    categories: tuple[str, ...]  # nuScenes category names
    sizes_lw_m: Float[np.ndarray, "A 2"]  # length, width
    ego: Track
    level: Track
    lidar: Track
    seen: Bool[np.ndarray, " A"]  # True if more than level 1 visible now or in one of the two key frames before
    visibilities: Int[np.ndarray, "A 7"]  # nuScenes' levels 1 (under 40 %) to 4; -1 where there is none
    lidar_points: Int[np.ndarray, "A 7"]  # in the box; -1 where the tables do not tell
    radar_points: Int[np.ndarray, "A 7"]

    @property
    def annotated(self) -> Bool[np.ndarray, "A 7"]:
        """True where the object has a box."""
        return np.isfinite(self.ego.yaws_rad)


@dataclass(frozen=True)
class Truth:
    """The truth of one sample, as protocols need it."""

    token: str
    scene: str
    future_m: Float[np.ndarray, "6 2"]  # recorded positions of the point that plans follow, ego axes; NaN past the end
    valid: Bool[np.ndarray, " 6"]  # True where the future is recorded
    agents: Agents
    drivable: Bool[np.ndarray, "1000 1000"] | None  # True is drivable; row = y left, column = x forward, 0.1 m
    future_lidar_m: Float[np.ndarray, "6 2"]  # recorded positions of LIDAR_TOP, lidar frame; NaN past the end
    past_steps: int  # key frames of the scene before this one
    curbs_m: Float[np.ndarray, "S 2 2"] | None  # S lines, from point to point, where the road ends; ego frame
    event: str | None = None  # what shapes the next 3 s, where the world is drawn
    classes: UInt8[np.ndarray, "H W"] | None = None  # of its front image: 0 background, i the class CLASSES[i - 1]


@dataclass(frozen=True)
class KeyFrame:
    """One key frame of a split, as sample lists see it."""

    token: str
    scene: str
    past_steps: int  # key frames of the scene before this one
    complete: bool  # True where all six future key frames are recorded


@dataclass(frozen=True)
class Steps:
    """Values of one plan at each step; what the recorded drive touches itself is left out."""

    l2_m: Float[np.ndarray, " 6"]
    box_hits: Bool[np.ndarray, " 6"]  # obj_box_col: the ego's box or footprint on an object
    center_hits: Bool[np.ndarray, " 6"] | None = None  # obj_col: the one cell under the ego, where there are cells
    off_road: Bool[np.ndarray, " 6"] | None = None  # the ego's box on what is not road, where the protocol asks


@dataclass(frozen=True)
class SampleScore:
    """Numbers of one counted sample at 1, 2, 3 s; a table shows their means over the counted samples.

    At a time or "any step up to it" a rate is 0 or 1; where the protocol averages over steps it is their share.
    """

    l2_m: Float[np.ndarray, " 3"]
    collision: Float[np.ndarray, " 3"]
    intersection: Float[np.ndarray, " 3"]  # with what is not road; NaN where the protocol knows no such thing


NO_RATE = np.full(3, np.nan)
Average = Callable[[NDArray[Any]], NDArray[np.float64]]


def at_time(values: Float[np.ndarray, " 6"] | Bool[np.ndarray, " 6"]) -> Float[np.ndarray, " 3"]:
    """Return the values of the steps at 1, 2, 3 s."""
    return values[np.array(HORIZON_STEPS) - 1].astype(float)


def mean_up_to(values: Float[np.ndarray, " 6"] | Bool[np.ndarray, " 6"]) -> Float[np.ndarray, " 3"]:
    """Return means of all steps up to 1, 2, 3 s."""
    return np.array([values[:steps].mean() for steps in HORIZON_STEPS], float)


def any_up_to(events: Bool[np.ndarray, " 6"]) -> Float[np.ndarray, " 3"]:
    """Return 1 where there is an event at any step up to 1, 2, 3 s."""
    return np.array([events[:steps].any() for steps in HORIZON_STEPS], float)


def averaged(steps: Steps, l2: Average, rates: Average) -> SampleScore:
    """Return the numbers of a counted sample from those of its steps."""
    intersection = NO_RATE if steps.off_road is None else rates(steps.off_road)
    return SampleScore(l2(steps.l2_m), rates(steps.box_hits), intersection)


def distances_m(path_m: Float[np.ndarray, "6 2"], future_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, " 6"]:
    """Return how far apart two paths are at each step."""
    return np.sqrt(((path_m - future_m) ** 2).sum(axis=1)).astype(float)


def load(name: str) -> Any:
    """Return the protocol's module, with `prepare(truth)` and `judge(plan_ego_m, prepared)`. Raises ParamsError.

    `prepare` returns None when it does not count the sample. TIMES, where it has that, says what values are taken over.
    """
    return plugins.find("protocols", name, "score_plans.protocol")
