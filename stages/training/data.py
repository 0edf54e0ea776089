"""Training data: camera images of a split, their visual tokens, and each image cut in two by its mask."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from stages.core.errors import DataError, ParamsError

# Images that are encoded together wherever images are encoded in advance (in memory, in the token cache). Kernels may
# sum in another order for another batch, so this and the order of the images fix the bits of their tokens.
ENCODE_BATCH = 32


@dataclass(frozen=True)
class Picture:
    """One camera image of the data set."""

    token: str  # sample_data token
    scene: str
    path: Path


def pictures_of(scenes: Any, split: str) -> list[Picture]:
    """All camera images of a split's key frames (`scenes` as stages.scenes.nuscenes opens them)."""
    frames = (scenes.frame(token) for token in scenes.tokens(split))
    return [Picture(camera.token, frame.scene, camera.path) for frame in frames for camera in frame.cameras.values()]


def check_splits(pictures: Sequence[Picture], split_of: Mapping[str, str], train_split: str, eval_split: str) -> None:
    """Raise ParamsError for an image of the evaluation split, or with a mask of another split (`split_of`)."""
    splits = [(picture, split_of.get(picture.token, train_split)) for picture in pictures]
    others = [(picture, split) for picture, split in splits if split == eval_split or split != train_split]
    if others:
        picture, split = others[0]
        raise ParamsError(
            expected=f"images of split {train_split} alone, none of {eval_split}, to learn from",
            got=f"{len(others)} of {len(pictures)} others (first: {picture.token} of {picture.scene}, split {split})",
            fix="edit scenes in params.yaml, or set train_pruner.other_splits: true (no figure is then a clean one)",
        )


def held_out(pictures: Sequence[Picture], scenes: int, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(training, held out), the latter of `scenes` scenes drawn by `seed`. Raises ParamsError when none is left."""
    names = scenes_of(pictures)
    if scenes >= len(names):
        expected = f"fewer held-out scenes than the {len(names)} of the training split"
        raise ParamsError(expected=expected, got=f"{scenes}", fix="lower train_pruner.held_out_scenes in params.yaml")
    chosen = set(np.random.default_rng(seed).permutation(names)[:scenes].tolist())
    return [p for p in pictures if p.scene not in chosen], [p for p in pictures if p.scene in chosen]


def scenes_of(pictures: Sequence[Picture]) -> list[str]:
    """Names of the scenes that the images are of."""
    return sorted({picture.scene for picture in pictures})


@dataclass(frozen=True)
class View:
    """Size and fit of an image for the vision tower, and how finely it is to be rebuilt."""

    size_px: tuple[int, int]  # W, H
    fit: str  # stretch or pad
    pixels_per_token: int


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
    names: Sequence[str]  # sample_data token of each
    waited_s: float = 0.0  # so far for what reads them; the tower's work is not in it

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """One batch per group of indices."""


class EncodedSamples(Samples):
    """Images encoded once and kept in memory: the tower is frozen, so epochs after the first need no tower."""

    def __init__(self, batch: Batch, grid: tuple[int, int], names: Sequence[str] = ()) -> None:
        self._all, self.grid = batch, grid
        self.names = names or [f"image {i}" for i in range(len(batch))]

    def __len__(self) -> int:
        return len(self._all)

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        return (self._all.take(group) for group in groups)


def pooled(images: UInt8[Tensor, "B 3 H W"], grid: tuple[int, int], side: int) -> UInt8[Tensor, "B 3 hp wp"]:
    """Images averaged down to `side` pixels per token, rounded."""
    h, w = grid
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), (h * side, w * side)).round().to(torch.uint8)


def in_groups(count: int) -> list[range]:
    """0 .. count - 1 in the units in which images are encoded in advance."""
    return [range(start, min(start + ENCODE_BATCH, count)) for start in range(0, count, ENCODE_BATCH)]


def first_tokens(samples: Samples, count: int = 512) -> Float[Tensor, "M D"]:
    """Tokens of at most `count` images, evenly over `samples`. DataError naming images that give no numbers."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    groups = [[chosen[place] for place in group] for group in in_groups(len(chosen))]
    tokens = torch.cat([batch.tokens for batch in samples.batches(groups)])
    finite = torch.isfinite(tokens).flatten(1).all(dim=1).tolist()
    broken = [samples.names[index] for index, whole in zip(chosen, finite, strict=True) if not whole]
    if broken:
        got = f"NaN or infinity for {len(broken)} of {len(chosen)}: {', '.join(broken[:8])}"
        fix = "look at these images, and at the checkpoint's vision tower"
        raise DataError(expected="finite visual tokens of the training images", got=got, fix=fix)
    return tokens.flatten(0, 1)


def draw(count: int, seed: int, step: int, size: int) -> list[int]:
    """The `size` indices of training step `step` (shuffled epochs, end to end): a pure function of its arguments."""
    places = range(step * size, (step + 1) * size)
    return [int(_order(count, seed, place // count)[place % count]) for place in places]


@lru_cache(maxsize=2)  # a step lies in two epochs at most, unless the set is smaller than a batch
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
