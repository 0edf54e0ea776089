"""What a worker process does: images, masks and cached tokens from disk, as arrays of the tower's input size.

A worker holds no index and no scenes: each job says where its bytes lie. It imports no transformers, and what decodes
(cv2, PIL, pyarrow) only when it reads: a bare GPU machine imports this module.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stages.core.errors import InputError
from stages.scenes.images import read_image, resize
from stages.training.data import View
from stages.training.token_shards import ImageFile, TokenRow, image_file, read_row


class MaskPlace(NamedTuple):
    """Where a mask's PNG lies."""

    folder: Path  # of the mask set
    row: Mapping[str, Any]  # token, shard, offset, size, sha256 of its index


@dataclass(frozen=True)
class Job:
    """One image to be read."""

    image: Path
    mask: MaskPlace | None = None  # None: the image is only to be encoded
    tokens: TokenRow | None = None  # None: the tower encodes it


class Read(NamedTuple):
    """A group of images as a worker hands it over."""

    images: UInt8[Tensor, "B 3 H W"]
    masks: Bool[Tensor, "B H W"] | None  # True is foreground
    tokens: Float[Tensor, "B N D"] | None
    files: list[ImageFile]  # what was read, where it is to go into the cache


@cache
def mask_reader() -> Callable[[MaskPlace], NDArray[np.bool_]]:
    """Reads a mask (H, W), True is foreground, without the index, which only the parent process holds.

    Raises DataError when the member is missing or damaged.
    """
    from PIL import Image

    from stages.masks.mask_set import MaskSet

    class Member(MaskSet):
        def __init__(self, place: MaskPlace) -> None:
            self._folder, self.png = place.folder, b""
            self.png = self._member(dict(place.row))

    return lambda place: np.array(Image.open(BytesIO(Member(place).png)))


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
    """Images of `jobs` at the view's size. All of them have a mask, or none; so with tokens.

    Raises DataError naming the image, mask or row of the cache that is missing, damaged or stale.
    """
    W, H = view.size_px
    images = np.empty((len(jobs), 3, H, W), np.uint8)
    masks, tokens, files = [], [], []
    for place, job in enumerate(jobs):
        images[place] = read_image(job.image, view.size_px, view.fit).transpose(2, 0, 1)
        if job.mask is not None:
            masks.append(view_mask(mask_reader()(job.mask), view))
        else:
            files.append(image_file(job.image))
        if job.tokens is not None:
            tokens.append(read_row(job.tokens, job.image))
    return Read(
        torch.from_numpy(images),
        torch.from_numpy(np.stack(masks)) if masks else None,
        torch.stack(tokens) if tokens else None,
        files,
    )


def view_mask(mask: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """The mask at the size of the tower's input; a pixel is foreground when most of what it covers is."""
    import cv2

    grey = np.asarray(mask * np.uint8(255), np.uint8)
    if view.fit == "stretch":
        return resize(grey, view.size_px, view.fit) > 127
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)  # padding is done on three channels only, at twice the time
    return resize(np.asarray(colour, np.uint8), view.size_px, view.fit)[:, :, 0] > 127


def as_it_is(read: Any) -> Any:
    """For a DataLoader, which expects a list of single images to collate: the group is whole already."""
    return read


def settle(_: int) -> None:
    """In a new worker: leave Ctrl-C to the parent, end with it, and take one core (torch gets one by itself)."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """The DataLoader's own watchdog looks at the process that forked the worker, which is not the parent."""
    parent = parent_process()
    assert parent is not None, "this is not a worker"
    parent.join()
    os._exit(1)
