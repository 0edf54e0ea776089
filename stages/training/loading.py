"""Images, masks and tokens as batches on the tower's device: kept in memory where they fit, else streamed.

Worker processes read with torch's DataLoader. A worker holds no index and no scenes: each job says where its bytes lie.
"""

import logging
import signal
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.backbone.tokens import foreground_share
from stages.backbone.vision import FastTower
from stages.core import io
from stages.core.errors import InputError, MachineError
from stages.core.progress import progress
from stages.scenes.images import read_image, resize
from stages.training.data import Batch, EncodedSamples, Picture, Samples, View, in_groups, pooled
from stages.training.token_cache import TokenCache, TokenRow, read_row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One image to be read."""

    image: Path
    masks: Path | None = None  # folder of the mask set; None: the image is only to be encoded
    mask: Mapping[str, Any] | None = None  # its `MaskSet.row` there
    tokens: TokenRow | None = None  # None: the tower encodes the image


class Read(NamedTuple):
    """A group of images as a worker hands it over."""

    images: UInt8[Tensor, "B 3 H W"]
    masks: Bool[Tensor, "B H W"] | None  # True is foreground
    tokens: Float[Tensor, "B N D"] | None
    sha256s: list[str]  # of image files that go into the cache


class Reader(Dataset[Any]):
    """Groups of jobs as `Read`, or as the InputError that one of them ended in: a worker's own would lose its words."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __getitems__(self, jobs: Sequence[Job]) -> Read | InputError:
        try:
            return read_group(jobs, self._view)
        except InputError as error:
            return error


def read_group(jobs: Sequence[Job], view: View) -> Read:
    """Images of `jobs`, all with masks or none, so with tokens. Raises DataError naming what is missing or damaged."""
    W, H = view.size_px
    images = np.empty((len(jobs), 3, H, W), np.uint8)
    masks, tokens, sha256s = [], [], []
    for place, job in enumerate(jobs):
        images[place] = read_image(job.image, view.size_px, view.fit).transpose(2, 0, 1)
        if job.masks is not None and job.mask is not None:
            from stages.masks.mask_set import read_mask

            masks.append(view_mask(read_mask(job.masks, dict(job.mask)), view))
        else:
            sha256s.append(io.sha256(job.image))
        if job.tokens is not None:
            tokens.append(read_row(job.tokens, job.image))
    return Read(
        torch.from_numpy(images),
        torch.from_numpy(np.stack(masks)) if masks else None,
        torch.stack(tokens) if tokens else None,
        sha256s,
    )


def view_mask(mask: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """The mask at the size of the tower's input; a pixel is foreground when most of what it covers is."""
    import cv2

    grey = np.asarray(mask * np.uint8(255), np.uint8)
    if view.fit == "stretch":
        return resize(grey, view.size_px, view.fit) > 127
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)  # padding is done on three channels only, at twice the time
    return resize(np.asarray(colour, np.uint8), view.size_px, view.fit)[:, :, 0] > 127


def read_groups(
    groups: Iterable[Sequence[Job]], view: View, workers: int, pin: bool = False
) -> Generator[Read, None, None]:
    """The groups, read in advance by `workers` processes (0: by this one), in order and bit-equal for any number.

    A worker prefetches two groups; `pin` puts them in page-locked memory, from where they go to a GPU in one piece.
    Workers end with the iterator. Raises the InputError that a group ended in; MachineError when a worker was killed.
    """
    if workers:
        import cv2

        cv2.setNumThreads(1)  # ahead of the fork: a worker would wait for ever for the threads that OpenCV has here
    sampler: Any = groups  # any iterable of lists will do; an index of the DataLoader is a job here
    loader = DataLoader(
        Reader(view),
        batch_sampler=sampler,
        collate_fn=_unchanged,
        num_workers=workers,
        worker_init_fn=_settle,
        pin_memory=pin,
    )
    reads = iter(loader)
    try:
        for read in reads:
            if isinstance(read, InputError):
                raise read
            yield read
    except (RuntimeError, OSError, EOFError) as error:
        if not workers or str(error).startswith("Caught "):  # a worker's own
            raise
        raise MachineError(
            expected=f"{workers} processes that read images until all are read",
            got=f"one was killed: {error!r:.200} (out of memory, or of shared memory in /dev/shm?)",
            fix="lower train_pruner.workers in params.yaml (in a container also: raise --shm-size), and run it again",
        ) from error.with_traceback(None)
    finally:
        del reads  # now: when the garbage collector finds it in a traceback, each worker is waited for 5 s


def _unchanged(read: Any) -> Any:
    return read


def _settle(_: int) -> None:
    """In a new worker: leave Ctrl-C and SIGTERM to the parent.

    A scheduler or the flow sends SIGTERM to the whole group of a run: the training then finishes its step, for which it
    needs its loaders, and saves. They end with it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class StreamedSamples(Samples):
    """Images read when drawn, by `workers` processes; encoded, or from the cache. DataError for one without a mask."""

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
        self._masks = [masks.row(token) for token in self.names]
        self._pictures, self._folder, self._cache = pictures, masks_folder, cache
        self._tower, self._view, self._workers = tower, view, workers

    def __len__(self) -> int:
        return len(self._pictures)

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        jobs = ([self._job(index) for index in group] for group in groups)
        reads = read_groups(jobs, self._view, self._workers, pin=self._tower.device.type == "cuda")
        while True:
            began_s = time.perf_counter()
            read = next(reads, None)
            self.waited_s += time.perf_counter() - began_s
            if read is None:
                return
            yield self._batch(read)

    def _job(self, index: int) -> Job:
        cached = None if self._cache is None else self._cache.row(self.names[index])
        return Job(self._pictures[index].path, self._folder, self._masks[index], cached)

    def _batch(self, read: Read) -> Batch:
        """A group as a batch on the tower's device; the tower encodes images whose tokens were not read."""
        assert read.masks is not None, "every job here has a mask"
        tower, grid, side = self._tower, self.grid, self._view.pixels_per_token
        images, masks = (part.to(tower.device, non_blocking=True) for part in (read.images, read.masks))
        return Batch(
            tower.encode(images) if read.tokens is None else read.tokens.to(tower.device, non_blocking=True),
            pooled(images * masks[:, None], grid, side),
            pooled(images * ~masks[:, None], grid, side),
            foreground_share(masks, grid),
        )

    def loaded(self, memory_gb: float) -> Samples:
        """All images in memory, on the CPU, where their tokens and targets fit in `memory_gb`; else these."""
        (h, w), tower = self.grid, self._tower
        token_bytes = tower.dtype.itemsize * tower.width + 6 * self._view.pixels_per_token**2 + 4
        needed_gb = len(self) * h * w * token_bytes / 1e9
        if needed_gb > memory_gb:
            source = "encoded" if self._cache is None else f"read from {self._cache.folder}"
            log.info("%.0f GB of tokens exceed feature_memory_gb %g: %s at each draw", needed_gb, memory_gb, source)
            return self
        groups = in_groups(len(self))
        batches = progress(self.batches(groups), total=len(groups), what=f"read {len(self)} images")
        whole: dict[str, torch.Tensor] = {}
        for group, batch in zip(groups, batches, strict=True):
            for name in (field.name for field in fields(Batch)):
                part = getattr(batch, name)
                if name not in whole:  # made once: `cat` would hold it twice
                    whole[name] = torch.empty(len(self), *part.shape[1:], dtype=part.dtype)
                whole[name][group.start : group.stop] = part.cpu()
        return EncodedSamples(Batch(**whole), self.grid, self.names)
