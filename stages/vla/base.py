"""Who drives: the contract of a driver. One driver, one file; file name = params key `vla.name`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.pruning.base import Pruner
from stages.scenes.base import Frame


@dataclass(frozen=True)
class Plan:
    """One answer of a driver."""

    token: str  # sample token
    waypoints_m: NDArray[np.float64]  # (T, 2), ego frame, x forward, y left; zeros when not parsed
    answer: str  # raw text
    parsed: bool
    kept: NDArray[np.int64]  # indices of the kept visual tokens, ascending
    tokens_kept: int  # K, merged tokens counted
    tokens_total: int  # N
    grid: tuple[int, int]  # (h, w)


class Driver(Protocol):
    """Plans the next 3 s of key frames from images, with a share of the visual tokens removed."""

    def plan(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        """Plans by prune ratio in percent, in the order of `frames`; one vision pass and one scoring serve all ratios."""
        ...
