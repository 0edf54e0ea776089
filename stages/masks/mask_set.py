"""nuScenes-FG on disk: uncompressed tar shards, an index with byte offsets, a manifest last; writing and reading.

`shards/<split>-<nnnn>.tar` holds `<token>.mask.png` (1 bit, white is foreground), `<token>.json` (phrases, boxes) and,
where the annotator knows it, `<token>.classes.png` per image; `index.parquet` has a row per image. Equal masks make
equal bytes. Members are read by offset, never extracted.

The value of a pixel in `<token>.classes.png`: its lowest three bits are the class in sight (0 background, i the class
CLASSES[i - 1]); bit 3 + i is set where the mask of CLASSES[i] is there too, hidden by the one in sight.
"""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from stages.core import io
from stages.core.errors import DataError
from stages.masks.base import Mask, prefetch

FOLDER = Path("data/masks")
MADE_BY = "dvc repro generate_masks"
INDEX = "index.parquet"
SCHEMA = pa.schema(
    {
        "token": pa.string(),  # sample_data token of the image
        "sample": pa.string(),
        "scene": pa.string(),
        "camera": pa.string(),
        "split": pa.string(),
        "shard": pa.string(),  # path inside the folder
        "offset": pa.int64(),  # of the mask's PNG in the shard
        "size": pa.int64(),
        "phrases": pa.list_(pa.string()),
        "boxes": pa.list_(pa.list_(pa.float32())),  # x0, y0, x1, y1 in pixels
        "foreground_share": pa.float64(),
        "sha256": pa.string(),  # of the mask's PNG
        "classes_offset": pa.int64(),  # of the class map's PNG in the shard; null where there is none
        "classes_size": pa.int64(),
        "classes_sha256": pa.string(),
    }
)
CLASS_MAP = "classes_"  # what the columns of a class map's place begin with, for `read_member`
SEEN_BITS = np.uint8(3)  # of a pixel of a class map: the class in sight; the bits above name the hidden ones
SEEN = np.uint8(2**SEEN_BITS - 1)
PALETTE = (0, 0, 0, 128, 64, 128, 0, 60, 220, 220, 20, 60, 250, 170, 30, 190, 110, 40)  # RGB of background, CLASSES

HEADER_BYTES = 512  # of a tar member whose name is shorter than 100 characters
THREADS = min(8, len(os.sched_getaffinity(0)))  # PNGs cost a CPU second for twenty images; zlib releases the GIL
WAITING = 32  # masks that are being made into PNGs: two batches of a large GPU, 140 MB at 1600 x 900

Row = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """The members of one image in a shard, as they are written."""

    token: str
    mask_png: bytes
    classes_png: bytes | None
    described: Row  # phrases, boxes: the member `<token>.json`
    foreground_share: float


def write_shard(path: Path, masks: Iterable[tuple[str, Mask] | Encoded], threads: int = THREADS) -> list[Row]:
    """Write one shard of masks by token; return a row of the index for each image, without where it comes from.

    Those that are encoded already are written as they are. Raises MachineError when the disk is full; then nothing
    stands under `path`.
    """
    rows = []
    with io.atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for image in prefetch(_encoded, masks, threads, WAITING):
            row = {"token": image.token, **_add(tar, f"{image.token}.mask.png", image.mask_png)}
            _add(tar, f"{image.token}.json", json.dumps(image.described, sort_keys=True).encode())
            if image.classes_png is not None:
                place = _add(tar, f"{image.token}.classes.png", image.classes_png)
                row |= {f"{CLASS_MAP}{key}": value for key, value in place.items()}
            rows.append({**row, **image.described, "foreground_share": image.foreground_share})
    return rows


def _encoded(image: tuple[str, Mask] | Encoded) -> Encoded:
    if isinstance(image, Encoded):
        return image
    token, mask = image
    described = {"phrases": list(mask.phrases), "boxes": mask.boxes_xyxy.tolist()}
    classes_png = None
    if mask.classes is not None:
        values = mask.classes
        if mask.layers is not None:
            values = values | (mask.layers & ~only(values)) << SEEN_BITS
        # Pillow takes 8 bits a pixel for more than 16 colours, else 4: enough where nothing is hidden
        wide = (*PALETTE, *[0] * 6) * 32  # 8 colours for each of the 32 sets of hidden classes
        classes_png = _png(values, wide if values.max(initial=0) >> SEEN_BITS else PALETTE)
    return Encoded(token, _png(mask.foreground), classes_png, described, float(mask.foreground.mean()))


def _png(pixels: NDArray[Any], palette: Sequence[int] | None = None) -> bytes:
    """1 bit a pixel, white where True; or numbers of colours, for people."""
    buffer, image = BytesIO(), Image.fromarray(pixels)
    if palette:
        image.putpalette(palette)
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> Row:
    """Add a member whose header says nothing of when, where and by whom it was written; returns its place."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    place = {"offset": tar.offset + HEADER_BYTES, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    tar.addfile(member, BytesIO(data))
    return place


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Rows as a part of the index, a tenth of their size in memory; what the index does not hold is left out."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def publish(work: Path, out: Path, rows: Sequence[Row] | pa.Table, notes: Mapping[str, object]) -> None:
    """Make `out` of those shards in `work` that `rows` name: linked, so that a run killed here finds its work again."""
    index = rows if isinstance(rows, pa.Table) else table_of(rows)
    (out / io.MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    (out / "shards").mkdir(parents=True)
    shards = sorted(index["shard"].unique().to_pylist())
    for shard in shards:
        try:
            os.link(work / shard, out / shard)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(work / shard, out / shard)
    io.write_parquet(out / INDEX, index)
    io.write_manifest(out, [out / INDEX, *(out / shard for shard in shards)], notes)


class MaskSet:
    """The masks of a complete folder, by sample_data token. Raises DataError for what is missing or damaged."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder, self.notes = folder, io.read_manifest(folder, MADE_BY)

    @cached_property
    def _rows(self) -> dict[str, Row]:
        table = io.read_parquet(io.check_file(self._folder, INDEX, MADE_BY), MADE_BY)
        return {row["token"]: row for row in table.drop_columns(["phrases", "boxes"]).to_pylist()}

    @property
    def rows(self) -> list[Row]:
        """A row per image, all columns but phrases and boxes, by scene and time."""
        return list(self._rows.values())

    def row(self, token: str) -> Row:
        """The row of one image. Raises DataError when the set does not hold it."""
        if token not in self._rows:
            got = f"none among the {len(self._rows)} of {self._folder}"
            raise DataError(expected=f"a mask of image {token}", got=got, fix=f"run `{MADE_BY}`")
        return self._rows[token]

    def mask(self, token: str) -> NDArray[np.bool_]:
        """(H, W), True is foreground. Raises DataError naming shard and token of a missing or damaged member."""
        return read_mask(self._folder, self.row(token))

    def classes(self, token: str) -> NDArray[np.uint8] | None:
        """(H, W), 0 background, i the class in sight CLASSES[i - 1]; None from an annotator that knows none."""
        pixels = self._class_map(token)
        return None if pixels is None else pixels & SEEN

    def layers(self, token: str) -> NDArray[np.uint8] | None:
        """(H, W), bit i is set where the mask of CLASSES[i] is, in sight or not: `layers >> i & 1` is that mask."""
        pixels = self._class_map(token)
        return None if pixels is None else pixels >> SEEN_BITS | only(pixels & SEEN)

    def _class_map(self, token: str) -> NDArray[np.uint8] | None:
        row = self.row(token)
        return None if row["classes_offset"] is None else read_mask(self._folder, row, CLASS_MAP)


def read_mask(folder: Path, row: Row, of: str = "") -> NDArray[Any]:
    """The pixels of a member of a shard: bool of a mask, uint8 of a class map. Raises DataError naming a lost one."""
    return np.array(Image.open(BytesIO(read_member(folder, row, of))))


def read_member(folder: Path, row: Row, of: str = "") -> bytes:
    """Return the bytes of a row's mask, or of its `CLASS_MAP`. Raises DataError when they are not there, or others."""
    path, data = folder / row["shard"], b""
    offset, size, sha256 = (row[f"{of}{key}"] for key in ("offset", "size", "sha256"))
    if path.is_file():
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    if hashlib.sha256(data).hexdigest() != sha256:
        got = "other bytes there (a flipped bit, or a member taken out)" if data else "nothing there"
        expected = f"mask {row['token']} in {path} at byte {offset}"
        raise DataError(expected=expected, got=got, fix=f"run `{MADE_BY}`")
    return data


def only(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class in sight -> the layers with that class alone."""
    return np.left_shift(np.uint8(1), classes) >> np.uint8(1)
