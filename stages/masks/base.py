"""The contract of an annotator. One annotator, one file with a class `Annotator`; file name = params key.

Foreground (paper, section "nuScenes-FG"): humans, roads, vehicles, traffic signs with traffic lights, traffic barriers.
In every mask of this project True is foreground.
"""

import difflib
import importlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ParamsError
from stages.scenes.base import Camera, Frame

T = TypeVar("T")
R = TypeVar("R")

CLASSES = ("road", "vehicle", "human", "sign", "barrier")  # class i of a class map is CLASSES[i - 1]; 0 is background


@dataclass(frozen=True)
class Mask:
    """The annotation of one image."""

    foreground: NDArray[np.bool_]  # (H, W), True is foreground
    phrases: tuple[str, ...]  # what was found, one per box
    boxes_xyxy: NDArray[np.float32]  # (M, 4) pixels
    classes: NDArray[np.uint8] | None = None  # (H, W) class map, from annotators that know it
    layers: NDArray[np.uint8] | None = None  # (H, W) bit i: CLASSES[i], in sight or not; where classes may overlap


class Annotator(ABC):
    """Turns camera images of key frames into masks: one each, in their order. Deterministic.

    A subclass is a dataclass whose first field is `scenes`; its other fields are the options in params.yaml.
    """

    reads_images: ClassVar[bool] = False  # whether the bytes of images shape the masks
    images_at_once: int = 1  # images in a call of `annotate`, the last one of a shard aside

    @abstractmethod
    def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        """Return the masks of some images."""

    def stream(self, batches: Iterable[Sequence[tuple[Frame, Camera]]]) -> Iterator[list[Mask]]:
        """Yield the masks of one batch after another; to be overridden by annotators that read images in advance."""
        return map(self.annotate, batches)

    def reads(self, frame: Frame) -> Sequence[object] | None:
        """Return all that is read of a key frame beside the frame's own record and its images; None: not known.

        Masks of an annotator that knows are kept when other scenes are added or change; others are all made again.
        """
        return None

    @property
    def gpus(self) -> int | None:
        """GPUs of this machine that its models may fill, one per process; None for an annotator that needs none."""
        return None

    @staticmethod
    def input_files(options: Mapping[str, object]) -> list[Path]:
        """Files beside the data set that shape the masks."""
        return []


def available() -> list[str]:
    """Names of the annotators in this folder, found without importing them."""
    here = Path(__file__)
    return sorted(p.stem for p in here.parent.glob("*.py") if p != here and "\nclass Annotator" in p.read_text())


def annotator_class(name: str) -> type[Annotator]:
    """The annotator of file `stages/masks/<name>.py`. Raises ParamsError when there is none."""
    if name not in available():
        raise _unknown("annotator", name, available(), "generate_masks.annotator")
    cls: type[Annotator] = importlib.import_module(f"stages.masks.{name}").Annotator
    return cls


def load(name: str, scenes: Any, options: Mapping[str, object]) -> Annotator:
    """An annotator with the data set and its options. Raises ParamsError for an unknown name or option."""
    cls: Any = annotator_class(name)
    known = [field.name for field in fields(cls) if field.name != "scenes"]
    for key in options:
        if key not in known:
            raise _unknown(f"option of {name}", key, known, f"annotators.{name}")
    annotator: Annotator = cls(scenes, **options)
    return annotator


def _unknown(kind: str, name: str, known: Sequence[str], key: str) -> ParamsError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ParamsError(
        expected=f"one {kind} of {', '.join(known) or 'none'}", got=repr(name) + hint, fix=f"edit {key} in params.yaml"
    )


def prefetch(function: Callable[[T], R], items: Iterable[T], threads: int, waiting: int) -> Iterator[R]:
    """`function` of each item, in order, worked on by threads; at most `waiting` results are ready or in work.

    Items are drawn in the thread of the reader.
    """
    futures: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                futures.append(pool.submit(function, item))
                if len(futures) > waiting:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()
