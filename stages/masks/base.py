"""The contract of an annotator. One annotator, one file with a class `Annotator`; file name = params key.

Foreground (paper, section "nuScenes-FG"): humans, roads, vehicles, traffic signs with traffic lights, traffic barriers.
In every mask of this project True is foreground.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.core import plugins
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


def annotator_class(name: str, options: Mapping[str, object]) -> type[Annotator]:
    """Return the class that the option `class` names, else `name` itself. Raises ParamsError when there is none."""
    return plugins.find("annotators", str(options.get("class", name)), f"annotators.{name}")


def load(name: str, scenes: Any, options: Mapping[str, object]) -> Annotator:
    """Return an annotator with the data set and its options. Raises ParamsError for an unknown name or option."""
    own = {key: value for key, value in options.items() if key != "class"}
    return plugins.construct(annotator_class(name, options), own, f"annotators.{name}", scenes=scenes)


def prefetch(function: Callable[[T], R], items: Iterable[T], threads: int, waiting: int) -> Iterator[R]:
    """Yield `function` of each item, in order, worked on by threads; at most `waiting` are ready or in work."""
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
            pool.shutdown(cancel_futures=True)
