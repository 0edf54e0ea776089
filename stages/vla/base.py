"""The contract of a driver. One driver, one file; file name = params key `vla.name`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages.core import plugins
from stages.pruning.base import Pruner
from stages.scenes.base import Frame
from stages.vla.plans import Plan


@runtime_checkable
class Driver(Protocol):
    """Plans the next 3 s of key frames from images, with a share of the visual tokens removed."""

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """The frames in groups that are planned together, in any order."""
        ...

    def plan(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        """Plans by prune ratio in percent, in the order of `frames`; one vision pass, one scoring for all ratios."""
        ...

    def remark(self, text: str) -> str:
        """How an answer departs from what the driver was taught; empty where it does not."""
        ...

    def counts(self) -> dict[str, int]:
        """Work done so far: `images_encoded`, and `scorings`, the batches that a pruner looked at."""
        ...


@dataclass(frozen=True)
class DriverOptions:
    """Options that every driver is opened with."""

    checkpoint: Path
    size_px: tuple[int, int]  # W, H
    fit: str  # stretch, pad or budget
    batch_size: int
    # Ground-truth foreground (H, W) of a sample_data token, True is foreground; for references that read it, else None
    mask_of: Callable[[str], NDArray[np.bool_]] | None = None
    # The question about a sample token, with one `<image>`, for drivers that are asked
    question_of: Callable[[str], str] | None = None
    checkpoint_sha256: str | None = None  # of the weights, as stages.vla.impromptu.verify counts it
    max_pixels: int = 0  # of `budget`
    answer_tokens: int = 0  # most tokens of an answer; the small driver knows its own
    answer_format: str = "x-y"  # of stages.vla.impromptu.MODES


def driver_options(
    vla: Mapping[str, Any],
    batch_size: int,
    question_of: Callable[[str], str],
    mask_of: Callable[[str], NDArray[np.bool_]] | None = None,
) -> DriverOptions:
    """Return the options of a driver from the section `vla` of params and from functions of the data set."""
    named = {name: vla[name] for name in ("checkpoint_sha256", "max_pixels", "answer_tokens", "answer_format")}
    size_px = (int(vla["size_px"][0]), int(vla["size_px"][1]))
    return DriverOptions(Path(vla["checkpoint"]), size_px, vla["fit"], batch_size, mask_of, question_of, **named)


def load(name: str, options: DriverOptions) -> Driver:
    """Open a driver: a file of this folder with a class `Driver`, an entry point of another package, `module:Class`.

    Raises ParamsError when there is none.
    """
    driver: Driver = plugins.find("drivers", name, "vla.name")(options)
    return driver
