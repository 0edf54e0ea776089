"""What the training benchmark reads: photos of nuScenes' size and masks in a folder, by the training's own loader.

The bytes are in the page cache: a disk that is slower than the decoding is not seen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.tower import FastTower
from stages.reconstruction.data import Batch, Samples, View
from stages.reconstruction.loading import StreamedSamples, to_batch
from stages.reconstruction.reading import Read
from stages.reconstruction.token_cache import TokenCache

PHOTO_PX = (1600, 900)  # W, H of a nuScenes camera
PHOTOS = 64  # different ones


def photo(seed: int) -> UInt8[NDArray[np.uint8], "H W 3"]:
    """Smooth shapes under sensor noise: at quality 90 a JPEG of 250 to 500 kB, which takes as long as a photo's."""
    from PIL import Image

    random, (W, H) = np.random.default_rng(seed), PHOTO_PX
    coarse = Image.fromarray(random.integers(0, 256, (H // 50, W // 50, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(PHOTO_PX, Image.Resampling.BICUBIC), np.float32)
    return (smooth + random.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Photos:
    """Images and masks on disk."""

    pictures: list[Any]  # of pictures.Picture
    masks: Path  # the folder of a mask set


def absent() -> list[str]:
    """Packages that reading photos needs and this machine lacks."""
    return [name for name in ("cv2", "PIL", "pyarrow") if find_spec(name) is None]


def write_photos(folder: Path, count: int) -> Photos:
    """`count` JPEGs and a set of masks (the lower half is foreground) under `folder`."""
    from PIL import Image

    from stages.masks import shards, writing
    from stages.masks.base import Mask
    from stages.reconstruction.pictures import Picture

    pictures = [Picture(f"photo{i:03}", "bench", folder / f"photo{i:03}.jpg") for i in range(count)]
    for i, picture in enumerate(pictures):
        Image.fromarray(photo(i)).save(picture.path, quality=90)
    W, H = PHOTO_PX
    lower = np.repeat(np.arange(H)[:, None] >= H // 2, W, axis=1)
    mask = Mask(lower, (), np.empty((0, 4), np.float32))
    name, work = "shards/bench-000.tar", folder / "work"
    rows = writing.write_shard(work / name, ((picture.token, mask) for picture in pictures)).rows
    for row in rows:
        row |= {"sample": row["token"], "scene": "bench", "camera": "CAM_FRONT", "split": "train", "shard": name}
    shards.publish(work, folder / "masks", rows, {})
    return Photos(pictures, folder / "masks")


def photo_samples(photos: Photos, tower: FastTower, view: View, *, workers: int, folder: Path | None) -> Samples:
    """Photos as training streams them, read by `workers` processes; tokens by the tower, or cached in `folder`."""
    cache = None
    if folder:
        cache = TokenCache.of(folder, tower, view.size_px, view.fit)
        cache.fill(photos.pictures, workers=workers)
    return StreamedSamples(photos.pictures, photos.masks, tower, view, workers=workers, cache=cache)


class RandomSamples(Samples):
    """The control: the same step behind a reader that costs nothing. One random group, over and over."""

    def __init__(self, tower: FastTower, view: View, *, cached: bool) -> None:
        self.grid, self.names = tower.grid(view.size_px), [f"random{i}" for i in range(PHOTOS)]
        self._tower, self._view, self._cached = tower, view, cached

    def __len__(self) -> int:
        return PHOTOS

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        read: Read | None = None
        for group in groups:
            if read is None or len(read.images) != len(group):
                read = self._draw(len(group))
            yield to_batch(read, self._tower, self._view)

    def _draw(self, B: int) -> Read:
        """Images, masks and cached tokens as the reader gives them."""
        W, H = self._view.size_px
        random = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (B, 3, H, W), dtype=torch.uint8, generator=random)
        masks = torch.rand(B, H, W, generator=random) > 0.5
        tokens = self._pinned(self._tower.encode(images).cpu()) if self._cached else None
        return Read(self._pinned(images), self._pinned(masks), tokens, [])

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._tower.device.type == "cuda" else tensor
