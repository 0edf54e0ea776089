"""Annotation of one data set as a job: which shards it is cut into, how one is made, and which masks are kept.

A shard and beside it a JSON note with its hash stay in a work folder named by a fingerprint of all that shapes them,
outside of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shard in work alone.

A data set grows by scenes, and its tables, maps and manifest change with each. What shapes one mask does not: the
annotator with its options and code, the key frame, the image, what the annotator reads of the map, and the truth that
the mask is compared with. Masks of equal keys are therefore taken over from earlier work.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.masks import agreement, base, mask_set
from stages.masks.base import Mask
from stages.scenes import layout
from stages.scenes.base import CAMERAS, Camera, Frame
from stages.scenes.layout import read_class_map
from stages.scenes.nuscenes import Scenes, open_scenes

WORK = Path("runs/masks")
STAGES = Path(__file__).parents[1]
PUBLISHED = "published"  # a file in the work folder of a set that was
opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many shards it works on


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

    def __hash__(self) -> int:
        return hash((self.root, self.version, self.annotator))

    @cached_property
    def work(self) -> Path:
        """Where finished shards wait: another option, table, map, truth, image or line of code, another folder."""
        tables = layout.table_hashes(Path(self.root), self.version)
        truth = Path(self.oracle_root or "") / io.MANIFEST
        oracle = io.sha256(truth) if self.oracle_root and truth.is_file() else self.oracle_root
        images = None
        if base.annotator_class(self.annotator, self.options).reads_images and not self.drawn_images():
            # Name and size: 241k images (35 GB) are too many to be hashed at each start
            paths = [path for camera in CAMERAS for path in Path(self.root, "samples", camera).glob("*")]
            images = sorted((path.parent.name, path.name, path.stat().st_size) for path in paths)
        return WORK / io.fingerprint(self.method(), self.images_per_shard, oracle, tables, images)

    def method(self) -> str:
        """Return a hash of what makes a mask of an image in any data set: annotator, options, files it reads, code."""
        cls = base.annotator_class(self.annotator, self.options)
        inputs = {path.name: io.sha256(path) for path in cls.input_files(self.options)}
        files = [path for name in ("masks", "scenes") for path in sorted((STAGES / name).glob("*.py"))]
        code = [io.sha256(path) for path in [*files, Path(inspect.getfile(cls))]]  # the last of another package, maybe
        return io.fingerprint(self.annotator, self.options, inputs, code)

    def drawn_images(self) -> dict[str, str]:
        """Hash by name of the files of a drawn world; empty for nuScenes, which has no manifest."""
        manifest = Path(self.root, io.MANIFEST)
        files = io.read_json(manifest, layout.MADE_BY)["files"] if manifest.is_file() else {}
        return {name: entry["sha256"] for name, entry in files.items()}


def image_keys(job: Job, annotator: base.Annotator, images: Sequence[tuple[Frame, Camera]]) -> list[str]:
    """Return the key of each mask: equal keys, equal masks. Without `reads` an annotator goes by the tables."""
    method, tables, drawn = job.method(), layout.table_hashes(Path(job.root), job.version), job.drawn_images()
    found = []
    for _, group in groupby(images, key=lambda pair: pair[0].token):
        of_frame = list(group)
        frame = of_frame[0][0]
        reads = annotator.reads(frame)
        shared = digest([method, frame, tables if reads is None else reads])
        for _, camera in of_frame:
            image, truth = None, Path(job.oracle_root or "", frame.scene, f"{camera.token}.png")
            if annotator.reads_images or reads is None:
                name = str(camera.path.relative_to(job.root))
                image = [name, camera.path.stat().st_size, drawn.get(name)]
            truth_sha256 = io.sha256(truth) if job.oracle_root and truth.is_file() else None
            found.append(digest([shared, camera.channel, image, truth_sha256]))
    return found


def digest(value: object) -> str:
    """A hash of nested records, arrays, sequences and plain values; of paths the names alone."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    return value.name if isinstance(value, Path) else vars(value)


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


def planned(job: Job, splits: Sequence[str]) -> list[Shard]:
    """The shards of a data set's splits."""
    scenes = opened(job.root, job.version)
    split_of = split_of_scene(scenes, splits)
    return plan_shards(split_of, {name: len(scenes.tokens_of_scene(name)) for name in split_of}, job.images_per_shard)


def plan_shards(split_of_scene: Mapping[str, str], key_frames: Mapping[str, int], images_per_shard: int) -> list[Shard]:
    """Shards of about so many images, in the order of the scenes; the scenes of a split stand together.

    A scene joins the shard before it while that brings the shard nearer to `images_per_shard`; one with more images
    is cut between key frames, into as few parts as it takes, of equal length but for one frame. So a scene that is
    appended changes no shard but the last of its split.
    """
    shards = []
    for split, scenes in groupby(split_of_scene, key=split_of_scene.__getitem__):
        joined: list[list[Part]] = []
        for scene in scenes:
            frames = key_frames[scene]
            pieces = -(-frames // max(1, images_per_shard // len(CAMERAS)))
            for piece in range(pieces):
                part = Part(scene, frames * piece // pieces, frames * (piece + 1) // pieces)
                images = sum(each.images for each in joined[-1]) if joined else 0
                if not joined or abs(images + part.images - images_per_shard) >= abs(images - images_per_shard):
                    joined.append([])
                joined[-1].append(part)
        shards += [Shard(split, number, tuple(parts)) for number, parts in enumerate(joined)]
    return shards


@lru_cache(maxsize=1)
def annotator_of(job: Job) -> base.Annotator:
    """The annotator of a job, made once in a process; its models are loaded with its first image."""
    return base.load(job.annotator, opened(job.root, job.version), job.options)


def make_shard(job: Job, shard: Shard) -> str:
    """Make `<work>/<name>` and, last, `<work>/<stem>.json`, where they are not there and whole; return the name.

    Two processes that make the same shard write the same bytes. Masks that an earlier set has of the very same images
    are taken over. Each image's row of the note has, beside the index's columns, its key, the (6, 2) pixel sums of its
    agreement with the truth (None without one), and whether its mask was taken over.
    """
    if finished(job.work, shard) is not None:
        return shard.name
    work, scenes, annotator = job.work, opened(job.root, job.version), annotator_of(job)
    tokens = [token for part in shard.parts for token in scenes.tokens_of_scene(part.scene)[part.start : part.stop]]
    images = [(frame, camera) for frame in map(scenes.frame, tokens) for camera in frame.cameras.values()]
    earlier, keys = earlier_masks(work, {part.scene for part in shard.parts}), image_keys(job, annotator, images)
    taken = {place: kept for place, key in enumerate(keys) if key in earlier and (kept := read_earlier(*earlier[key]))}
    rest, size = [image for place, image in enumerate(images) if place not in taken], annotator.images_at_once
    batches = [rest[start : start + size] for start in range(0, len(rest), size)]
    overlaps: list[Any] = [earlier[key][1]["overlap"] if place in taken else None for place, key in enumerate(keys)]

    def masks() -> Iterator[tuple[str, Mask] | mask_set.Encoded]:
        stream = zip(batches, annotator.stream(batches), strict=True)
        made = (mask for batch, some in stream for _, mask in zip(batch, some, strict=True))
        for place, (frame, camera) in enumerate(images):
            if place in taken:
                yield taken[place]
                continue
            mask = next(made)
            if job.oracle_root is not None and mask.classes is not None:
                truth = read_class_map(Path(job.oracle_root, frame.scene, f"{camera.token}.png"))
                overlaps[place] = agreement.overlap(mask.classes, truth).tolist()
            yield camera.token, mask

    rows = mask_set.write_shard(work / shard.name, masks())
    for place, (row, (frame, camera)) in enumerate(zip(rows, images, strict=True)):
        row |= {"key": keys[place], "overlap": overlaps[place], "taken": place in taken, "sample": frame.token}
        row |= {"scene": frame.scene, "camera": camera.channel, "split": shard.split, "shard": shard.name}
    note = {"parts": list(map(vars, shard.parts)), "rows": rows, "sha256": io.sha256(work / shard.name)}
    io.write_json(work / f"{shard.stem}.json", note)
    return shard.name


def earlier_masks(work: Path, scenes: Collection[str]) -> dict[str, tuple[Path, mask_set.Row]]:
    """Folder and row of masks of some scenes by the key of each image, of all work folders but `work`: the set
    published last, and work that was stopped.
    """
    paths = [path for path in sorted(WORK.resolve().glob("*/*.json")) if path.parent != work.resolve()]
    notes = ((path.parent, _read_note(path)) for path in paths if not _scenes_of(path).isdisjoint(scenes))
    return {row["key"]: (folder, row) for folder, note in notes for row in note["rows"]}


def read_earlier(folder: Path, row: mask_set.Row) -> mask_set.Encoded | None:
    """Return a mask as it was written; None when a byte is other than noted, or the shard is gone."""
    try:
        mask_png = mask_set.read_member(folder, row)
        classes_png = mask_set.read_member(folder, row, mask_set.CLASS_MAP) if "classes_offset" in row else None
    except DataError:
        return None
    described = {key: row[key] for key in ("phrases", "boxes")}
    return mask_set.Encoded(row["token"], mask_png, classes_png, described, row["foreground_share"])


@cache
def _scenes_of(path: Path) -> frozenset[str]:
    """Read once in a process: a set of 1,000 scenes has hundreds of notes, and a shard needs a few."""
    return frozenset(row["scene"] for row in _read_note(path)["rows"])


def finished(work: Path, shard: Shard) -> Mapping[str, Any] | None:
    """The note of a whole shard: `parts`, `sha256`, `rows` of the index, each with key, overlap, taken; else None."""
    note, path = _read_note(work / f"{shard.stem}.json"), work / shard.name
    same = note.get("parts") == list(map(vars, shard.parts))
    return note if same and path.is_file() and io.sha256(path) == note["sha256"] else None


def _read_note(path: Path) -> Mapping[str, Any]:
    """A note; one without rows where it is absent, damaged, or of an earlier version of this program."""
    try:
        note: dict[str, Any] = io.read_json(path, mask_set.MADE_BY)
    except DataError:
        return {"rows": []}
    return note if "rows" in note else {"rows": []}


def collect(work: Path, plan: Sequence[Shard]) -> tuple[pa.Table, list[dict[str, NDArray[np.int64]]], int]:
    """Return index, pixel sums (6, 2) by scene and camera, count taken over. DataError: an absent shard."""
    parts, taken = [mask_set.table_of([])], 0
    overlaps: dict[str, dict[str, NDArray[np.int64]]] = {}
    for shard in plan:
        if (note := finished(work, shard)) is None:
            expected, got = f"{len(plan)} finished shards in {work}", f"{shard.name} not there or damaged"
            raise DataError(expected=expected, got=got, fix=f"run `{mask_set.MADE_BY}`")
        parts.append(mask_set.table_of(note["rows"]))
        for row in note["rows"]:
            taken += row["taken"]
            if row["overlap"] is not None:  # by scene: scenes are independent, images of one are not
                of_scene, camera = overlaps.setdefault(row["scene"], {}), row["camera"]
                of_scene[camera] = of_scene.get(camera, 0) + np.array(row["overlap"], np.int64)
    return pa.concat_tables(parts), list(overlaps.values()), taken


def keep_only(work: Path) -> None:
    """Mark `work` as published, and remove the work of sets published before it.

    It is kept: a run killed after this and before DVC has stored the set, or one with only the report changed, makes
    nothing again. It takes no room until DVC stores the set, then as much as the set. Work in progress stays.
    """
    (work / PUBLISHED).touch()
    for other in WORK.glob(f"*/{PUBLISHED}"):
        if other.parent != work:
            shutil.rmtree(other.parent)
