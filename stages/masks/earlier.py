"""Masks that an earlier set made of the very same: taken over, so that new scenes cost new scenes alone.

They lie in the work folders beside the own one, as `shard_maker` notes them: the set published last, and work that was
stopped. Any damaged part is as good as absent.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.core import io
from stages.core.errors import DataError
from stages.masks import shards, writing
from stages.masks.recipe import WORK


@dataclass(frozen=True)
class Held:
    """One image's mask in an earlier shard."""

    tar: Path
    row: Mapping[str, Any]
    overlap: Any  # pixel sums (6, 2) with the truth; none where there is no truth

    def read(self) -> writing.Encoded | None:
        """As it was written; none when a byte is other than noted, or the shard is gone."""
        row = dict(self.row)
        mask, of_classes = self._member(row), shards.class_map_place(row)
        classes = None if of_classes is None else self._member(of_classes)
        if mask is None or (classes is None and of_classes is not None):
            return None
        found = {key: row[key] for key in ("phrases", "boxes")}
        return writing.Encoded(row["token"], mask, classes, found, row["foreground_share"])

    def _member(self, place: Mapping[str, Any]) -> bytes | None:
        try:
            with self.tar.open("rb") as file:
                file.seek(place["offset"])
                data = file.read(place["size"])
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == place["sha256"] else None


def held_of(work: Path, scenes: Collection[str]) -> dict[str, Held]:
    """What there is of some scenes, by the key of each image, in all work folders but `work`."""
    found: dict[str, Held] = {}
    for path in _notes(work):
        if _scenes_of(path).isdisjoint(scenes):
            continue
        note = read_note(path)
        for row, image in zip(note["rows"], note["images"], strict=True) if note else ():
            if row["scene"] in scenes:
                found[image["key"]] = Held(path.parent / row["shard"], row, image["overlap"])
    return found


def _notes(work: Path) -> Iterator[Path]:
    for path in sorted(WORK.resolve().glob("*/*.json")):
        if path.parent != work.resolve():
            yield path


@cache
def _scenes_of(path: Path) -> frozenset[str]:
    """Read once in a process: a set of 1,000 scenes has hundreds of notes, and a shard asks for a few."""
    note = read_note(path)
    return frozenset(row["scene"] for row in note["rows"]) if note and "images" in note else frozenset()


def read_note(path: Path) -> Mapping[str, Any] | None:
    """What is noted of a shard. None when the note is missing or damaged."""
    try:
        held = io.read_json(path, shards.MADE_BY)
    except DataError:
        return None
    if not isinstance(held, dict) or held.keys() != {"of", "sha256"} or held["sha256"] != hash_of(held["of"]):
        return None
    note: Mapping[str, Any] = held["of"]
    return note


def hash_of(note: object) -> str:
    """The hash that stands beside a note."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()
