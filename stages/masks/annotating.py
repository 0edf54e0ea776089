"""The masks of a run of images, in their order: those of an earlier set where it has the very same, the others made."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.masks import agreement
from stages.masks.base import Annotator, Mask, Streaming
from stages.masks.earlier import Held
from stages.masks.keys import Keys
from stages.masks.recipe import Recipe
from stages.masks.writing import Encoded
from stages.scenes.base import Camera, Frame
from stages.scenes.oracle import read_class_map

Picture = tuple[Frame, Camera]
Sums = list[list[int]] | None  # (6, 2) of `agreement.overlap`; None without a truth


@dataclass(frozen=True)
class Noted:
    """What the next set wants to know of an image's mask, and this one's report."""

    key: str
    overlap: Sums
    taken: bool  # from an earlier set


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    camera: Camera
    key: str
    held: Held | None
    taken: Encoded | None


class Annotating:
    """Call it once; `noted` then has an entry for each image, in their order."""

    def __init__(self, recipe: Recipe, annotator: Annotator, held: Mapping[str, Held]) -> None:
        self.noted: list[Noted] = []
        self._recipe, self._annotator, self._held = recipe, annotator, held
        self._keys = Keys(recipe, annotator)

    def __call__(self, images: Iterable[Picture]) -> Iterator[tuple[str, Mask] | Encoded]:
        """Masks, or what a shard holds of them. Raises ValueError when the annotator gives another number of them."""
        waiting: deque[_Waiting] = deque()
        for masks in self._annotated(self._batches(images, waiting)):
            for mask in masks:
                yield from self._taken(waiting)
                if not waiting:
                    raise ValueError("the annotator gave more masks than there were images")
                yield self._made(waiting.popleft(), mask)
        yield from self._taken(waiting)
        if waiting:
            raise ValueError(f"the annotator gave {len(waiting)} masks too few")

    def _annotated(self, batches: Iterator[Sequence[Picture]]) -> Iterator[Sequence[Mask]]:
        if isinstance(self._annotator, Streaming):
            return self._annotator.stream(batches)
        return map(self._annotator.annotate, batches)

    def _batches(self, images: Iterable[Picture], waiting: deque[_Waiting]) -> Iterator[Sequence[Picture]]:
        """The images to be annotated, `images_at_once` of them; all go into `waiting`, with the mask of those held."""
        batch: list[Picture] = []
        for frame, camera in images:
            key = self._keys.of(frame, camera)
            held = self._held.get(key)
            taken = held.read() if held else None
            waiting.append(_Waiting(frame, camera, key, held, taken))
            if taken is None:
                batch.append((frame, camera))
            if len(batch) == self._annotator.images_at_once:
                yield batch
                batch = []
        if batch:
            yield batch

    def _taken(self, waiting: deque[_Waiting]) -> Iterator[Encoded]:
        """Those in front that need no annotator."""
        while waiting and (taken := waiting[0].taken):
            one = waiting.popleft()
            self.noted.append(Noted(one.key, one.held.overlap if one.held else None, taken=True))
            yield taken

    def _made(self, one: _Waiting, mask: Mask) -> tuple[str, Mask]:
        overlap: Sums = None
        if self._recipe.oracle_root is not None and mask.classes is not None:
            truth = read_class_map(Path(self._recipe.oracle_root), one.frame, one.camera.channel)
            overlap = np.asarray(agreement.overlap(mask.classes, truth)).tolist()
        self.noted.append(Noted(one.key, overlap, taken=False))
        return one.camera.token, mask
