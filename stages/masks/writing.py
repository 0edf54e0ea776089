"""Masks into one shard: PNGs made side by side in threads, while whoever makes the masks goes on.

PNGs cost more than half of a CPU second for ten images of 1600 x 900, and zlib lets go of the interpreter. The bytes do
not depend on the threads: each PNG is of its own image, and members are added in the order of the masks.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.core import io
from stages.masks.ahead import ahead
from stages.masks.base import Mask
from stages.masks.shards import PALETTE, SEEN_BITS, Row, only

HEADER_BYTES = 512  # of a tar member whose name is shorter than 100 characters
THREADS = min(8, len(os.sched_getaffinity(0)))
WAITING = 32  # masks that are being made into PNGs: two batches of a large GPU, 140 MB at 1600 x 900


@dataclass(frozen=True)
class Written:
    """What stands in a shard."""

    rows: list[Row]  # per image: token, phrases, boxes, foreground_share, place of mask and of class map
    sha256: str  # of the bytes that were written, whatever another process has put in their place since


@dataclass(frozen=True)
class Encoded:
    """What a shard holds of one image, as it is written."""

    token: str
    mask_png: bytes
    classes_png: bytes | None
    found: Row  # phrases, boxes: the member `<token>.json`
    foreground_share: float


def png_of(foreground: NDArray[np.bool_]) -> bytes:
    """A 1-bit PNG, white where foreground."""
    buffer = BytesIO()
    Image.fromarray(foreground).save(buffer, format="PNG")
    return buffer.getvalue()


def png_of_classes(classes: NDArray[np.uint8], layers: NDArray[np.uint8] | None = None) -> bytes:
    """A PNG of the values that `shards` explains; the palette, the colour of what is in sight, is for people."""
    values = classes if layers is None else classes | (layers & ~only(classes)) << SEEN_BITS
    buffer, image = BytesIO(), Image.fromarray(values)
    # Pillow takes 8 bits a pixel for more than 16 colours, else 4: enough where nothing is hidden
    image.putpalette(_wide_palette() if values.max(initial=0) >> SEEN_BITS else PALETTE)
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _wide_palette() -> list[int]:
    colors = np.zeros((2**SEEN_BITS, 3), np.uint8)
    colors[: len(PALETTE) // 3] = np.reshape(PALETTE, (-1, 3))
    return [int(value) for value in np.tile(colors, (256 // len(colors), 1)).ravel()]


def write_shard(path: Path, masks: Iterable[tuple[str, Mask] | Encoded], threads: int = THREADS) -> Written:
    """Write one shard of the masks, by token; those that are encoded already are written as they are.

    Raises MachineError when the disk is full; then nothing stands under `path`.
    """
    rows: list[Row] = []
    with io.atomic_write(path) as file:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for image in ahead(_encoded, masks, threads, WAITING):
                rows.append(_add_image(tar, image))
    return Written(rows, hashed.digest.hexdigest())


def _encoded(image: tuple[str, Mask] | Encoded) -> Encoded:
    if isinstance(image, Encoded):
        return image
    token, mask = image
    found = {"phrases": list(mask.phrases), "boxes": mask.boxes_xyxy.tolist()}
    classes = None if mask.classes is None else png_of_classes(mask.classes, mask.layers)
    return Encoded(token, png_of(mask.foreground), classes, found, float(mask.foreground.mean()))


def _add_image(tar: tarfile.TarFile, image: Encoded) -> Row:
    """Add the members of an image; returns its row of the index."""
    row = {"token": image.token, **_add(tar, f"{image.token}.mask.png", image.mask_png)}
    _add(tar, f"{image.token}.json", json.dumps(image.found, sort_keys=True).encode())
    if image.classes_png is not None:
        place = _add(tar, f"{image.token}.classes.png", image.classes_png)
        row |= {f"classes_{key}": value for key, value in place.items()}
    return {**row, **image.found, "foreground_share": image.foreground_share}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> Row:
    """Add a member whose header says nothing of when, where and by whom it was written; returns its place."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    place = {"offset": tar.offset + HEADER_BYTES, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    tar.addfile(member, BytesIO(data))
    return place


class _Hashed:
    """A file that is written from its begin to its end, and the hash of what went into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()
