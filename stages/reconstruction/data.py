"""What the reconstruction learns from: visual tokens of camera images, and each image cut in two by its mask."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.qwen import VisionTower
from stages.errors import ParamsError
from stages.progress import progress
from stages.scenes.images import read_image, resize
from stages.tokens import foreground_share

log = logging.getLogger(__name__)

MaskOf = Callable[[str], NDArray[np.bool_]]  # sample_data token -> (H, W), True is foreground
READERS = 4  # threads that decode images while the last batch is encoded
ENCODE_BATCH = 32  # also the unit of encoding, so that a resumed run sees the same bits


@dataclass(frozen=True)
class Picture:
    """One camera image of the data set."""

    token: str  # sample_data token
    scene: str
    path: Path


@dataclass(frozen=True)
class Batch:
    """Tokens of B images and what is to be rebuilt from them; h x w token grid, p pixels on a side of a token."""

    tokens: Float[Tensor, "B N D"]
    fore: UInt8[Tensor, "B 3 hp wp"]  # the image times its foreground mask, averaged down to p pixels a token
    back: UInt8[Tensor, "B 3 hp wp"]  # the image times its background mask
    share: Float[Tensor, "B N"]  # of each token's pixels that are foreground

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def take(self, indices: Sequence[int]) -> "Batch":
        """The images at `indices`."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return Batch(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


class Samples(ABC):
    """Images that can be drawn in any order."""

    grid: tuple[int, int]  # (h, w) tokens of each

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """One batch per group of indices."""


class StreamedSamples(Samples):
    """Images read and encoded when drawn; the next group is decoded while the caller works on this one."""

    def __init__(self, pictures: Sequence[Picture], mask_of: MaskOf, tower: VisionTower, view: "View") -> None:
        self.pictures, self.grid = pictures, tower.grid(view.size_px)
        self._mask_of, self._tower, self._view = mask_of, tower, view

    def __len__(self) -> int:
        return len(self.pictures)

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        with ThreadPoolExecutor(READERS) as pool:
            waiting: list[Future[Pair]] = []
            for group in groups:
                ahead = [pool.submit(self._read, index) for index in group]
                if waiting:
                    yield self._encode([future.result() for future in waiting])
                waiting = ahead
            if waiting:
                yield self._encode([future.result() for future in waiting])

    def _read(self, index: int) -> "Pair":
        picture = self.pictures[index]
        return read_pair(picture.path, self._mask_of(picture.token), self._view)

    def _encode(self, pairs: Sequence["Pair"]) -> Batch:
        images, masks = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
        images = images.permute(0, 3, 1, 2).contiguous()
        side = self._view.pixels_per_token
        return Batch(
            self._tower.encode(images),
            pooled(images * masks[:, None], self.grid, side),
            pooled(images * ~masks[:, None], self.grid, side),
            foreground_share(masks, self.grid),
        )


@dataclass(frozen=True)
class View:
    """How an image is brought before the vision tower, and how finely it is to be rebuilt."""

    size_px: tuple[int, int]  # W, H
    fit: str  # stretch or pad
    pixels_per_token: int


Pair = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # image (H, W, 3) and mask (H, W), both of the view's size


def read_pair(path: Path, mask: NDArray[np.bool_], view: View) -> Pair:
    """Image and mask at the size of the tower's input; a pixel is foreground when most of what it covers is."""
    grey = np.repeat(mask[:, :, None].astype(np.uint8) * 255, 3, axis=2)
    return read_image(path, view.size_px, view.fit), resize(grey, view.size_px, view.fit)[:, :, 0] > 127


def pooled(images: UInt8[Tensor, "B 3 H W"], grid: tuple[int, int], side: int) -> UInt8[Tensor, "B 3 hp wp"]:
    """Images averaged down to `side` pixels per token, rounded."""
    h, w = grid
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), (h * side, w * side)).round().to(torch.uint8)


class EncodedSamples(Samples):
    """Images encoded once and kept in memory: the tower is frozen, so epochs after the first need no tower."""

    def __init__(self, batch: Batch, grid: tuple[int, int]) -> None:
        self._all, self.grid = batch, grid

    def __len__(self) -> int:
        return len(self._all)

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        return (self._all.take(group) for group in groups)


def in_memory(streamed: StreamedSamples) -> EncodedSamples:
    """All images of `streamed`, encoded in their order."""
    count = len(streamed)
    groups = [range(start, min(start + ENCODE_BATCH, count)) for start in range(0, count, ENCODE_BATCH)]
    batches = list(progress(streamed.batches(groups), total=len(groups), what=f"encode {count} images"))
    parts = ([getattr(batch, field.name) for batch in batches] for field in fields(Batch))
    return EncodedSamples(Batch(*(torch.cat(part) for part in parts)), streamed.grid)


def open_samples(
    pictures: Sequence[Picture], mask_of: MaskOf, tower: VisionTower, view: View, memory_gb: float
) -> Samples:
    """The images, in memory when their tokens fit in `memory_gb`, else encoded anew at each draw."""
    streamed = StreamedSamples(pictures, mask_of, tower, view)
    h, w = streamed.grid
    needed_gb = len(pictures) * h * w * (4 * tower.width + 6 * view.pixels_per_token**2) / 1e9
    if needed_gb <= memory_gb:
        return in_memory(streamed)
    log.info("%.0f GB of tokens exceed feature_memory_gb %g: images are encoded at each draw", needed_gb, memory_gb)
    return streamed


def pictures_of(scenes: Any, split: str) -> list[Picture]:
    """All camera images of a split's key frames (`scenes` as stages.scenes.nuscenes opens them)."""
    frames = (scenes.frame(token) for token in scenes.tokens(split))
    return [Picture(camera.token, frame.scene, camera.path) for frame in frames for camera in frame.cameras.values()]


def held_out(pictures: Sequence[Picture], scenes: int, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(training, held out): all images of `scenes` scenes, drawn by `seed`, are kept from training.

    Raises ParamsError when no scene would be left.
    """
    names = scenes_of(pictures)
    if scenes >= len(names):
        raise ParamsError(
            wanted=f"fewer held-out scenes than the {len(names)} of the training split",
            came=f"{scenes}",
            then="lower train_pruner.held_out_scenes in params.yaml",
        )
    chosen = set(np.random.default_rng(seed).permutation(names)[:scenes].tolist())
    return [p for p in pictures if p.scene not in chosen], [p for p in pictures if p.scene in chosen]


def scenes_of(pictures: Sequence[Picture]) -> list[str]:
    """Names of the scenes that the images are of."""
    return sorted({picture.scene for picture in pictures})


def first_tokens(samples: Samples, count: int = 512) -> Float[Tensor, "M D"]:
    """Tokens of at most `count` images, evenly over `samples`: what a pruner standardises by."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    groups = [chosen[start : start + ENCODE_BATCH] for start in range(0, len(chosen), ENCODE_BATCH)]
    return torch.cat([batch.tokens.flatten(0, 1) for batch in samples.batches(groups)])


def draw(count: int, seed: int, step: int, size: int) -> list[int]:
    """The `size` indices of training step `step` (shuffled epochs, end to end): a pure function of its arguments."""
    places = np.arange(step * size, (step + 1) * size)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(count) for epoch in set((places // count).tolist())
    }
    return [int(orders[place // count][place % count]) for place in places.tolist()]
