"""What really happened around each key frame of a split, on disk: made once, read by every score.

`scenes/<scene>.parquet` has a row per key frame, `key_frames.parquet` says where each lies; the manifest comes last.
Equal truths make equal bytes. Drivable areas, 10^6 cells each, are bits under zstd: a few kilobytes a key frame.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from stages.core import io
from stages.core.errors import DataError
from stages.planning.base import KeyFrame, Truth
from stages.planning.columns import records_of, schema_of, table_of

FOLDER = Path("data/truths")
MADE_BY = "dvc repro prepare_truths"
INDEX = "key_frames.parquet"


@dataclass(frozen=True)
class Known:
    """All that is known of one key frame beside what was driven."""

    truth: Truth
    event: str | None  # what shapes the next 3 s, where the world is drawn
    classes: UInt8[np.ndarray, "H W"] | None  # of the front image: 0 background, i the class CLASSES[i - 1]


def clear(folder: Path) -> None:
    """Take away what an earlier or interrupted run left: its manifest first, so that nothing half-gone is whole."""
    (folder / io.MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def write_scene(folder: Path, scene: str, known: Sequence[Known]) -> list[KeyFrame]:
    """Write the shard of one scene, its key frames in the order of time."""
    io.write_parquet(_shard(folder, scene), table_of(known, Known))
    return [KeyFrame(k.truth.token, scene, bool(k.truth.valid.all())) for k in known]


def publish(folder: Path, key_frames: Sequence[KeyFrame], notes: Mapping[str, Any]) -> None:
    """Seal `folder`, whose shards hold `key_frames`. Raises DataError when a token is in two places."""
    _check_once(key_frames, str(folder), "mend sample.json, or the split")
    io.write_parquet(folder / INDEX, table_of(key_frames, KeyFrame))
    shards = [_shard(folder, scene) for scene in dict.fromkeys(frame.scene for frame in key_frames)]
    io.write_manifest(folder, [folder / INDEX, *shards], notes)


class TruthStore:
    """The truths of one split in a complete folder.

    Raises DataError for a folder without its manifest, of another split, or with a key frame in two of its shards.
    """

    def __init__(self, split: str, folder: Path = FOLDER) -> None:
        self._folder = folder
        self.notes = io.read_manifest(folder, MADE_BY)
        if self.notes["split"] != split:
            came = f"those of {self.notes['split']}"
            raise DataError(expected=f"the truths of split {split} in {folder}", got=came, fix=f"run `{MADE_BY}`")
        self.key_frames = tuple(records_of(self._table(INDEX, KeyFrame), KeyFrame))
        _check_once(self.key_frames, str(folder), f"run `{MADE_BY}`")

    @property
    def drawn(self) -> bool:
        """Whether class maps and events are known."""
        return bool(self.notes["drawn"])

    def known(self) -> Iterator[Known]:
        """Every key frame of the split, scene by scene, in the order of time. Raises DataError as `scene` does."""
        for name in dict.fromkeys(frame.scene for frame in self.key_frames):
            yield from self.scene(name)

    def scene(self, name: str) -> Iterator[Known]:
        """The key frames of one scene in the order of time. Raises DataError when its shard is damaged or another's."""
        shard = str(_shard(Path(), name))
        wanted = [frame.token for frame in self.key_frames if frame.scene == name]
        table = self._table(shard, Known)
        came = pa.compute.struct_field(table["truth"], "token").to_pylist()
        if came != wanted:
            found = f"{len(came)} others (first: {(came or ['none'])[0]})"
            where = f"the {len(wanted)} key frames of {name} in {self._folder / shard}"
            raise DataError(expected=where, got=found, fix=f"run `{MADE_BY}`")
        yield from records_of(table, Known)

    def _table(self, name: str, kind: type[Any]) -> pa.Table:
        path = io.check_file(self._folder, name, MADE_BY)
        table = io.read_parquet(path, MADE_BY)
        if not table.schema.equals(schema_of(kind)):
            wanted = f"the fields of {kind.__name__} in {path}"
            raise DataError(expected=wanted, got="others (made by other code?)", fix=f"run `{MADE_BY}`")
        return table


def _shard(folder: Path, scene: str) -> Path:
    return folder / "scenes" / f"{scene}.parquet"


def _check_once(key_frames: Sequence[KeyFrame], where: str, then: str) -> None:
    double = [token for token, n in Counter(frame.token for frame in key_frames).items() if n > 1]
    if double:
        places = [frame.scene for frame in key_frames if frame.token == double[0]]
        came = f"{len(double)} twice (first: {double[0]} in {' and '.join(places)})"
        raise DataError(expected=f"each key frame once in the shards of {where}", got=came, fix=then)
