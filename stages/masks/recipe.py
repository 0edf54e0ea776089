"""All that shapes the masks of a data set, and the name of the folder where work on them waits."""

import ast
import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stages.core import io
from stages.masks import base
from stages.scenes import layout
from stages.scenes.base import CAMERAS

WORK = Path("runs/masks")
STAGES = Path(__file__).parents[1]


@dataclass(frozen=True)
class Recipe:
    """A plain value, so that it can be sent to another process."""

    root: str
    version: str
    annotator: str
    options: Mapping[str, object]  # nested lists and mappings of plain YAML values
    images_per_shard: int
    oracle_root: str | None

    def key(self) -> str:
        """Equal recipes, equal keys, whatever stands in `options`."""
        return json.dumps(vars(self), sort_keys=True)

    def work_folder(self) -> Path:
        """Where finished shards wait: another option, table, map, truth, image or line of code, another folder."""
        tables = layout.table_hashes(Path(self.root), self.version)
        truth = Path(self.oracle_root or "") / io.MANIFEST
        oracle = io.sha256(truth) if self.oracle_root and truth.is_file() else self.oracle_root
        return WORK / io.fingerprint(self.method(), self.images_per_shard, oracle, tables, self._images())

    def method(self) -> str:
        """How a mask is made of an image, whichever the data set: annotator, options, files that it reads, code."""
        return io.fingerprint(self.annotator, self.options, self._inputs(), self._code())

    def _inputs(self) -> Mapping[str, str]:
        """Files that an annotator reads beside the data set, by hash."""
        if self.annotator not in base.available():  # who loads it says so
            return {}
        module = importlib.import_module(f"stages.masks.{self.annotator}")
        paths: list[Path] = getattr(module, "input_files", lambda _: [])(self.options)
        return {path.name: io.sha256(path) for path in paths}

    def _images(self) -> str | None:
        """Images by name and size, where their bytes shape the masks.

        241k images are too many to be hashed at each start (35 GB); the manifest of a drawn world has their hashes.
        """
        drawn = (Path(self.root) / io.MANIFEST).is_file()
        return image_sizes(Path(self.root)) if reads_images(self.annotator) and not drawn else None

    def _code(self) -> dict[str, str]:
        """The annotator and what makes shards of its masks, with all they import: not what reports on them."""
        found: set[Path] = set()
        todo = {STAGES / "masks" / f"{self.annotator}.py", STAGES / "masks" / "shard_maker.py"}
        while todo:
            found |= todo
            todo = {other for path in todo for other in imported(path)} - found
        return {str(path.relative_to(STAGES)): io.sha256(path) for path in sorted(found) if path.is_file()}


def reads_images(annotator: str) -> bool:
    """Whether the bytes of images shape the masks: the annotator's module says so."""
    if annotator not in base.available():
        return False
    return bool(getattr(importlib.import_module(f"stages.masks.{annotator}"), "READS_IMAGES", False))


def image_sizes(root: Path) -> str:
    """A hash of name and size of every key-frame image."""
    told = hashlib.sha256()
    for camera in CAMERAS:
        folder = root / "samples" / camera
        entries = os.scandir(folder) if folder.is_dir() else ()
        for name, size in sorted((entry.name, entry.stat().st_size) for entry in entries):
            told.update(f"{camera}/{name} {size}\n".encode())
    return told.hexdigest()


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files that a file imports anywhere in it, of the folders of stages/: files at its top shape no mask."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())) if path.is_file() else ():
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    inside = (name.split(".")[1:] for name in names if name.split(".")[:1] == ["stages"])
    paths = (STAGES.joinpath(*parts).with_suffix(".py") for parts in inside if len(parts) > 1)
    return frozenset(path for path in paths if path.is_file())
