"""The key of one image's mask: equal keys, equal masks, whichever data set the scene stands in.

A data set grows by scenes, and its tables, maps and manifest change with each. What shapes one mask does not: the
annotator with its options and code, the key frame, the image, what the annotator asks of the map, and the truth that
the mask is held against.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import io
from stages.masks import base
from stages.masks.recipe import Recipe, reads_images
from stages.scenes import layout
from stages.scenes.base import Camera, Frame


class Keys:
    """Keys of the masks of a recipe. An annotator that is not `Accountable` binds them to the data set as a whole."""

    def __init__(self, recipe: Recipe, annotator: base.Annotator) -> None:
        self._recipe, self._annotator = recipe, annotator
        self._last = ("", "")  # token and key of a key frame: its cameras follow each other

    def of(self, frame: Frame, camera: Camera) -> str:
        """The key of one image of a key frame."""
        if self._last[0] != frame.token:
            self._last = (frame.token, digest([self._method, frame, self._read_for(frame)]))
        return digest([self._last[1], camera.channel, self._image(camera), self._truth(frame, camera)])

    @cached_property
    def _method(self) -> Sequence[str]:
        return (self._recipe.method(), *([] if self._accountable else [self._tables]))

    @property
    def _accountable(self) -> bool:
        return isinstance(self._annotator, base.Accountable)

    @cached_property
    def _tables(self) -> str:
        return io.fingerprint(layout.table_hashes(Path(self._recipe.root), self._recipe.version))

    def _read_for(self, frame: Frame) -> object:
        return self._annotator.reads(frame) if isinstance(self._annotator, base.Accountable) else None

    def _image(self, camera: Camera) -> object:
        """Name and size, and in a drawn world the hash, unless the annotator says that it looks at no images."""
        if self._accountable and not reads_images(self._recipe.annotator):
            return None
        name = str(camera.path.relative_to(self._recipe.root))
        return [name, camera.path.stat().st_size, _drawn(Path(self._recipe.root)).get(name)]

    def _truth(self, frame: Frame, camera: Camera) -> str | None:
        """Hash of the true class map: the agreement with it is kept beside the mask."""
        path = Path(self._recipe.oracle_root or "") / frame.scene / f"{camera.token}.png"
        return io.sha256(path) if self._recipe.oracle_root is not None and path.is_file() else None


@lru_cache(maxsize=1)
def _drawn(root: Path) -> Mapping[str, str]:
    """Hash by name of the files of a drawn world; empty for nuScenes, which has no manifest."""
    if not (root / io.MANIFEST).is_file():
        return {}
    entries = io.read_json(root / io.MANIFEST, layout.MADE_BY)["files"]
    return {name: entry["sha256"] for name, entry in entries.items()}


def digest(value: object) -> str:
    """A hash of nested records, arrays, sequences and plain values; of paths the names alone."""
    told = hashlib.sha256()
    for piece in _pieces(value):
        told.update(b"%d:" % len(piece))
        told.update(piece)
    return told.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    """The bytes of a value, each piece with its kind before it, so that no two values are told alike."""
    if isinstance(value, np.ndarray):
        yield f"array {value.dtype.str} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Path):
        yield f"path {value.name}".encode()
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"record {type(value).__name__}".encode()
        for field in fields(value):
            yield from _pieces(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key, held in value.items():
            yield from _pieces(key)
            yield from _pieces(held)
    elif isinstance(value, list | tuple):
        yield f"list {len(value)}".encode()
        for held in value:
            yield from _pieces(held)
    else:
        yield f"{type(value).__name__} {value!r}".encode()
