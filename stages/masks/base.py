"""What is foreground: the contract of an annotator. One annotator, one file; file name = params key.

Foreground (paper, section "nuScenes-FG"): humans, roads, vehicles, traffic signs with traffic lights, traffic barriers.
In every mask of this project True is foreground.
"""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ParamsError
from stages.scenes.base import Camera, Frame

CLASSES = ("road", "vehicle", "human", "sign", "barrier")  # class i of a class map is CLASSES[i - 1]; 0 is background


@dataclass(frozen=True)
class Mask:
    """The annotation of one image."""

    foreground: NDArray[np.bool_]  # (H, W), True is foreground
    phrases: tuple[str, ...]  # what was found, one per box
    boxes_xyxy: NDArray[np.float32]  # (M, 4) pixels
    classes: NDArray[np.uint8] | None = None  # (H, W) class map, from annotators that know it
    layers: NDArray[np.uint8] | None = None  # (H, W) bit i: CLASSES[i], in sight or not; where classes may overlap


@runtime_checkable
class Annotator(Protocol):
    """Turns camera images of key frames into masks: one each, in their order. Deterministic."""

    @property
    def images_at_once(self) -> int:
        """How many images a call of `annotate` gets, the last one of a shard aside."""

    def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]: ...


@runtime_checkable
class Streaming(Protocol):
    """An annotator that reads images ahead: the masks of one batch after another, the same as `annotate` gives."""

    def stream(self, batches: Iterable[Sequence[tuple[Frame, Camera]]]) -> Iterator[list[Mask]]: ...


@runtime_checkable
class Accountable(Protocol):
    """An annotator that tells all it reads of a key frame beside the frame's own record and its images.

    Its masks of a scene are then kept when other scenes come or change; those of any other one are all made again.
    """

    def reads(self, frame: Frame) -> Sequence[object]:
        """Arrays, strings, numbers and records of them."""


@runtime_checkable
class OnGpu(Protocol):
    """An annotator whose models fill a GPU."""

    @property
    def gpus(self) -> int | None:
        """How many of this machine it may take, each by another process; None when it is told to work without."""


def available() -> list[str]:
    """Names of the annotators in this folder: its files with a class `Annotator`, read and not imported."""
    here = Path(__file__)
    return sorted(p.stem for p in here.parent.glob("*.py") if p != here and "\nclass Annotator" in p.read_text())


def load(name: str, scenes: Any, options: Mapping[str, object]) -> Annotator:
    """The annotator of file `stages/masks/<name>.py`, made with the data set and its params.

    Raises ParamsError when there is no such file or it does not take one of the options.
    """
    names = available()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ParamsError(
            expected=f"an annotator of stages/masks: {', '.join(names)}",
            got=repr(name) + (f" (did you mean {near[0]!r}?)" if near else ""),
            fix="edit generate_masks.annotator in params.yaml, or add the file",
        )
    cls = importlib.import_module(f"stages.masks.{name}").Annotator
    known = [f.name for f in fields(cls) if f.init and f.name != "scenes"]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ParamsError(
                expected=f"options of {name}: {', '.join(known) or 'none'}",
                got=repr(key) + (f" (did you mean {near[0]!r}?)" if near else ""),
                fix=f"edit annotators.{name} in params.yaml",
            )
    return cls(scenes, **options)
