"""Images, masks and tokens as batches on the tower's device: kept in memory where they fit, else streamed."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import torch

from stages.backbone.tokens import foreground_share
from stages.backbone.vision import FastTower
from stages.core.progress import progress
from stages.training.data import Batch, EncodedSamples, Samples, View, in_groups, pooled
from stages.training.pictures import Picture
from stages.training.reading import Job, MaskPlace, Read
from stages.training.token_cache import TokenCache
from stages.training.workers import read_ahead

log = logging.getLogger(__name__)
OF_MASK = ("token", "shard", "offset", "size", "sha256")  # what a worker needs to find and verify one


class StreamedSamples(Samples):
    """Images read when drawn, `workers` processes ahead; encoded then, or taken from the cache.

    Raises DataError when one of `pictures` has no mask.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        masks_folder: Path,
        tower: FastTower,
        view: View,
        *,
        workers: int,
        cache: TokenCache | None,
    ) -> None:
        from stages.masks.mask_set import MaskSet  # here: it needs PIL and pyarrow

        masks = MaskSet(masks_folder)
        self.grid, self.names = tower.grid(view.size_px), [picture.token for picture in pictures]
        self._rows = [masks.row(token) for token in self.names]
        self._pictures, self._folder, self._cache = pictures, masks_folder, cache
        self._tower, self._view, self._workers = tower, view, workers

    def __len__(self) -> int:
        return len(self._pictures)

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        jobs = ([self._job(index) for index in group] for group in groups)
        reads = read_ahead(jobs, self._view, self._workers, pin=self._tower.device.type == "cuda")
        while True:
            began_s = time.perf_counter()
            read = next(reads, None)
            self.waited_s += time.perf_counter() - began_s
            if read is None:
                return
            yield to_batch(read, self._tower, self._view)

    def _job(self, index: int) -> Job:
        mask = MaskPlace(self._folder, {name: self._rows[index][name] for name in OF_MASK})
        cached = None if self._cache is None else self._cache.row(self.names[index])
        return Job(self._pictures[index].path, mask, cached)


def to_batch(read: Read, tower: FastTower, view: View) -> Batch:
    """What was read as a batch on the tower's device; the tower encodes images whose tokens were not read."""
    assert read.masks is not None, "every job here has a mask"
    grid, side, device = tower.grid(view.size_px), view.pixels_per_token, tower.device
    images, masks = (part.to(device, non_blocking=True) for part in (read.images, read.masks))
    return Batch(
        tower.encode(images) if read.tokens is None else read.tokens.to(device, non_blocking=True),
        pooled(images * masks[:, None], grid, side),
        pooled(images * ~masks[:, None], grid, side),
        foreground_share(masks, grid),
    )


def open_samples(
    pictures: Sequence[Picture],
    masks_folder: Path,
    tower: FastTower,
    view: View,
    *,
    workers: int,
    cache: TokenCache | None,
    memory_gb: float,
) -> Samples:
    """The images, in memory when tokens and targets fit in `memory_gb`, else read at each draw.

    Their tokens come from `cache`, which must hold them all, else from the tower: once for memory, else at each draw.
    """
    streamed = StreamedSamples(pictures, masks_folder, tower, view, workers=workers, cache=cache)
    needed_gb = size_gb(len(pictures), tower, view)
    if needed_gb <= memory_gb:
        return in_memory(streamed)
    source = "encoded" if cache is None else f"read from {cache.folder}"
    log.info("%.0f GB of tokens exceed feature_memory_gb %g: they are %s at each draw", needed_gb, memory_gb, source)
    return streamed


def size_gb(count: int, tower: FastTower, view: View) -> float:
    """Of tokens and targets of `count` images in memory."""
    h, w = tower.grid(view.size_px)
    return count * h * w * (tower.dtype.itemsize * tower.width + 6 * view.pixels_per_token**2 + 4) / 1e9


def in_memory(streamed: StreamedSamples) -> EncodedSamples:
    """All images of `streamed`, in their order, on the CPU."""
    count, groups = len(streamed), in_groups(len(streamed))
    batches = progress(streamed.batches(groups), total=len(groups), what=f"read {count} images")
    whole: dict[str, torch.Tensor] = {}
    for group, batch in zip(groups, batches, strict=True):
        for name in (field.name for field in fields(Batch)):
            part = getattr(batch, name)
            if name not in whole:
                whole[name] = torch.empty(count, *part.shape[1:], dtype=part.dtype)  # once: `cat` would hold it twice
            whole[name][group.start : group.stop] = part.cpu()
    return EncodedSamples(Batch(**whole), streamed.grid, streamed.names)
