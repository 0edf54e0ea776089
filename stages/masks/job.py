"""Annotation of one data set as a job: which shards it is cut into, where its work waits, and which masks are equal.

A data set grows by scenes, and its tables, maps and manifest change with each. What shapes one mask does not: the
annotator with its options and code, the key frame, the image, what the annotator reads of the map, and the truth that
the mask is compared with. Masks of equal `keys` are therefore taken over from earlier work.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import io
from stages.core.errors import ParamsError
from stages.masks import base
from stages.scenes import layout
from stages.scenes.base import CAMERAS, Camera, Frame
from stages.scenes.nuscenes import Scenes

WORK = Path("runs/masks")
_STAGES = Path(__file__).parents[1]


@dataclass(frozen=True)
class Part:
    """Consecutive key frames of a scene, all their cameras: the first, and one past the last."""

    scene: str
    start: int
    stop: int

    @property
    def images(self) -> int:
        """As planned; a frame that lacks a camera makes the shard smaller, and no other shard different."""
        return (self.stop - self.start) * len(CAMERAS)


@dataclass(frozen=True)
class Shard:
    """One tar file, the unit of work and of restart. Its scenes follow each other and are of one split."""

    split: str
    number: int  # within the split
    parts: tuple[Part, ...]

    @property
    def stem(self) -> str:
        """Name of its files, without a suffix."""
        return f"{self.split}-{self.number:04d}"

    @property
    def name(self) -> str:
        """Path of the tar inside a mask set."""
        return f"shards/{self.stem}.tar"


@dataclass(frozen=True)
class Job:
    """All that shapes the masks of a data set; a plain value that can be sent to another process."""

    root: str
    version: str
    annotator: str
    options: Mapping[str, object]  # nested lists and mappings of plain YAML values
    images_per_shard: int
    oracle_root: str | None

    def key(self) -> str:
        """The job as text."""
        return json.dumps(vars(self), sort_keys=True)

    def work_folder(self) -> Path:
        """Where finished shards wait: another option, table, map, truth, image or line of code, another folder."""
        tables = layout.table_hashes(Path(self.root), self.version)
        truth = Path(self.oracle_root or "") / io.MANIFEST
        oracle = io.sha256(truth) if self.oracle_root and truth.is_file() else self.oracle_root
        images = None
        if base.annotator_class(self.annotator, self.options).reads_images and not self.drawn_images():
            images = image_sizes(Path(self.root))
        return WORK / io.fingerprint(self.method(), self.images_per_shard, oracle, tables, images)

    def method(self) -> str:
        """Return a hash of what makes a mask of an image in any data set: annotator, options, files it reads, code."""
        cls = base.annotator_class(self.annotator, self.options)
        inputs = cls.input_files(self.options)
        code = [io.sha256(path) for folder in ("masks", "masks/grounding", "scenes") for path in _code(folder)]
        code += [io.sha256(Path(inspect.getfile(cls)))]  # of another package, maybe
        return io.fingerprint(self.annotator, self.options, {path.name: io.sha256(path) for path in inputs}, code)

    def drawn_images(self) -> dict[str, str]:
        """Hash by name of the files of a drawn world; empty for nuScenes, which has no manifest."""
        root = Path(self.root)
        if not (root / io.MANIFEST).is_file():
            return {}
        return {name: e["sha256"] for name, e in io.read_json(root / io.MANIFEST, layout.MADE_BY)["files"].items()}


def _code(folder: str) -> list[Path]:
    return sorted((_STAGES / folder).glob("*.py"))


def image_sizes(root: Path) -> str:
    """A hash of name and size of every key-frame image: 241k images (35 GB) are too many to be hashed at each start."""
    digest = hashlib.sha256()
    for camera in CAMERAS:
        folder = root / "samples" / camera
        entries = os.scandir(folder) if folder.is_dir() else ()
        for name, size in sorted((entry.name, entry.stat().st_size) for entry in entries):
            digest.update(f"{camera}/{name} {size}\n".encode())
    return digest.hexdigest()


def keys(job: Job, annotator: base.Annotator) -> Callable[[Frame, Camera], str]:
    """A function that gives the key of one image's mask: equal keys, equal masks, whatever the data set around them.

    An annotator that does not say what it `reads` binds its masks to the tables of the data set as a whole.
    """
    root, truths = Path(job.root), Path(job.oracle_root or "")
    method, tables, drawn = job.method(), layout.table_hashes(root, job.version), job.drawn_images()

    last: tuple[Frame | None, bool, str] = (None, False, "")

    def key(frame: Frame, camera: Camera) -> str:
        nonlocal last
        if last[0] is not frame:  # the cameras of a key frame follow each other
            reads = annotator.reads(frame)
            last = (frame, reads is not None, digest([method, frame, tables if reads is None else reads]))
        image, truth = None, truths / frame.scene / f"{camera.token}.png"
        if annotator.reads_images or not last[1]:
            name = str(camera.path.relative_to(job.root))
            image = [name, camera.path.stat().st_size, drawn.get(name)]
        truth_sha256 = io.sha256(truth) if job.oracle_root and truth.is_file() else None
        return digest([last[2], camera.channel, image, truth_sha256])

    return key


def digest(value: object) -> str:
    """A hash of nested records, arrays, sequences and plain values; of paths the names alone."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.name
    if is_dataclass(value):
        return [type(value).__name__, {field.name: getattr(value, field.name) for field in fields(value)}]
    raise TypeError(f"no hash of a {type(value).__name__}")


def split_of_scene(scenes: Scenes, splits: Sequence[str]) -> dict[str, str]:
    """Scene -> split, in the order of the splits. Raises ParamsError when two of them share a scene."""
    found: dict[str, str] = {}
    for split in splits:
        names = scenes.split(split)
        if shared := [name for name in names if name in found]:
            both = f"{len(shared)} in both {found[shared[0]]} and {split} (first: {shared[0]})"
            raise ParamsError(expected="splits without a common scene", got=both, fix="edit scenes in params.yaml")
        found.update(dict.fromkeys(names, split))
    return found


def plan_shards(split_of_scene: Mapping[str, str], key_frames: Mapping[str, int], images_per_shard: int) -> list[Shard]:
    """Shards of about so many images, in the order of the scenes; the scenes of a split stand together.

    A scene joins the shard before it while that brings the shard nearer to `images_per_shard`; one with more images
    is cut between key frames. So a scene that is appended changes no shard but the last of its split.
    """
    shards = []
    for split, scenes in groupby(split_of_scene, key=split_of_scene.__getitem__):
        parts = (part for scene in scenes for part in _cut(scene, key_frames[scene], images_per_shard))
        shards += [Shard(split, number, joined) for number, joined in enumerate(_joined(parts, images_per_shard))]
    return shards


def _cut(scene: str, key_frames: int, images_per_shard: int) -> Iterator[Part]:
    """The scene in as few parts of at most `images_per_shard` images as it takes, of equal length but for one frame."""
    pieces = -(-key_frames // max(1, images_per_shard // len(CAMERAS)))
    for piece in range(pieces):
        yield Part(scene, key_frames * piece // pieces, key_frames * (piece + 1) // pieces)


def _joined(parts: Iterator[Part], images_per_shard: int) -> Iterator[tuple[Part, ...]]:
    joined: list[Part] = []
    images = 0
    for part in parts:
        if joined and abs(images + part.images - images_per_shard) >= abs(images - images_per_shard):
            yield tuple(joined)
            joined, images = [], 0
        joined.append(part)
        images += part.images
    if joined:
        yield tuple(joined)
