"""Annotation of one data set as a job: which shards it is cut into, how one is made, and which masks are kept.

A shard and beside it a JSON note, with a hash of its own, stay in a work folder named by a fingerprint of all that
shapes them, outside of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shard in work alone.

A data set grows by scenes, and its tables, maps and manifest change with each. What shapes one mask does not: the
annotator with its options and code, the key frame, the image, what the annotator reads of the map, and the truth that
the mask is compared with. Masks of equal `keys` are therefore taken over from earlier work.
"""

import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache, lru_cache
from itertools import chain, groupby
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
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.scenes.oracle import read_class_map

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
        folders = ("masks", "masks/grounding", "scenes")
        code = [io.sha256(path) for folder in folders for path in sorted((STAGES / folder).glob("*.py"))]
        code += [io.sha256(Path(inspect.getfile(cls)))]  # of another package, maybe
        return io.fingerprint(self.annotator, self.options, {path.name: io.sha256(path) for path in inputs}, code)

    def drawn_images(self) -> dict[str, str]:
        """Hash by name of the files of a drawn world; empty for nuScenes, which has no manifest."""
        root = Path(self.root)
        if not (root / io.MANIFEST).is_file():
            return {}
        return {name: e["sha256"] for name, e in io.read_json(root / io.MANIFEST, layout.MADE_BY)["files"].items()}


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


def planned(job: Job, splits: Sequence[str]) -> list[Shard]:
    """The shards of a data set's splits."""
    scenes = opened(job.root, job.version)
    split_of = split_of_scene(scenes, splits)
    return plan_shards(split_of, {name: len(scenes.tokens_of_scene(name)) for name in split_of}, job.images_per_shard)


@dataclass(frozen=True)
class ShardMaker:
    """Makes a shard of a plan, if it is not there and whole: `<work>/<name>` and, last, `<work>/<stem>.json`."""

    job: Job
    work: Path

    def __call__(self, shard: Shard) -> str:
        """Name of the shard, which is then finished. Two processes that make the same one write the same bytes."""
        if finished(self.work, shard) is None:
            self._make(shard)
        return shard.name

    def _make(self, shard: Shard) -> None:
        images, notes = list(_images(self.job, shard)), list[dict[str, Any]]()
        earlier = earlier_masks(self.work, {part.scene for part in shard.parts})
        masks = annotated(self.job, annotator_of(self.job.key()), images, earlier, notes)
        rows = mask_set.write_shard(self.work / shard.name, masks)
        places = (
            {"sample": frame.token, "scene": frame.scene, "camera": camera.channel, "split": shard.split}
            for frame, camera in images
        )
        note = {
            "parts": [asdict(part) for part in shard.parts],
            "rows": [{**row, **place, "shard": shard.name} for row, place in zip(rows, places, strict=True)],
            "images": notes,  # key, overlap, taken of each, in the order of the rows
            "sha256": io.sha256(self.work / shard.name),
        }
        io.write_json(_note(self.work, shard), {"of": note, "sha256": _hash_of(note)})


@lru_cache(maxsize=1)
def annotator_of(key: str) -> base.Annotator:
    """The annotator of `Job.key()`, made once in a process; its models are loaded with its first image."""
    job = Job(**json.loads(key))
    return base.load(job.annotator, opened(job.root, job.version), job.options)


def _images(job: Job, shard: Shard) -> Iterator[tuple[Frame, Camera]]:
    """Key-frame images by scene and time, then in the order of CAMERAS."""
    scenes = opened(job.root, job.version)
    for part in shard.parts:
        for token in scenes.tokens_of_scene(part.scene)[part.start : part.stop]:
            frame = scenes.frame(token)
            for camera in frame.cameras.values():
                yield frame, camera


def annotated(
    job: Job,
    annotator: base.Annotator,
    images: Sequence[tuple[Frame, Camera]],
    earlier: Mapping[str, "EarlierMask"],
    notes: list[dict[str, Any]],
) -> Iterator[tuple[str, Mask] | mask_set.Encoded]:
    """The masks of images, in their order: those that an earlier set made of the very same, the others made now.

    `notes` gets, for each image, its key, the (6, 2) pixel sums of its agreement with the truth (None without one), and
    whether its mask was taken over. Raises ValueError when the annotator gives another number of masks.
    """
    key_of = keys(job, annotator)
    image_keys = [key_of(frame, camera) for frame, camera in images]
    taken = {place: kept for place, key in enumerate(image_keys) if key in earlier and (kept := earlier[key].read())}
    rest, size = [image for place, image in enumerate(images) if place not in taken], annotator.images_at_once
    batches = (rest[start : start + size] for start in range(0, len(rest), size))
    made = chain.from_iterable(annotator.stream(batches))
    for place, (key, (frame, camera)) in enumerate(zip(image_keys, images, strict=True)):
        if place in taken:
            notes.append({"key": key, "overlap": earlier[key].overlap, "taken": True})
            yield taken[place]
            continue
        mask = next(made, None)
        if mask is None:
            raise ValueError(f"the annotator gave no mask for image {camera.token}")
        overlap = None
        if job.oracle_root is not None and mask.classes is not None:
            truth = read_class_map(Path(job.oracle_root), frame, camera.channel)
            overlap = agreement.overlap(mask.classes, truth).tolist()
        notes.append({"key": key, "overlap": overlap, "taken": False})
        yield camera.token, mask
    if next(made, None) is not None:
        raise ValueError("the annotator gave more masks than there were images")


@dataclass(frozen=True)
class EarlierMask:
    """One image's mask in a shard of earlier work."""

    work: Path  # its folder
    row: mask_set.Row
    overlap: Any  # pixel sums (6, 2) with the truth; None where there is no truth

    def read(self) -> mask_set.Encoded | None:
        """Return it as it was written; None when a byte is other than noted, or the shard is gone."""
        place = mask_set.class_map_place(self.row)
        try:
            mask_png = mask_set.read_member(self.work, self.row)
            classes_png = mask_set.read_member(self.work, place) if place else None
        except DataError:
            return None
        described = {key: self.row[key] for key in ("phrases", "boxes")}
        return mask_set.Encoded(self.row["token"], mask_png, classes_png, described, self.row["foreground_share"])


def earlier_masks(work: Path, scenes: Collection[str]) -> dict[str, EarlierMask]:
    """Masks of some scenes by the key of each image, of all work folders but `work`: the set published last, and work
    that was stopped.
    """
    found: dict[str, EarlierMask] = {}
    for path in sorted(WORK.resolve().glob("*/*.json")):
        if path.parent == work.resolve() or _scenes_of(path).isdisjoint(scenes):
            continue
        note = _read_note(path)
        for row, image in zip(note["rows"], note["images"], strict=True) if note else ():
            if row["scene"] in scenes:
                found[image["key"]] = EarlierMask(path.parent, row, image["overlap"])
    return found


@cache
def _scenes_of(path: Path) -> frozenset[str]:
    """Read once in a process: a set of 1,000 scenes has hundreds of notes, and a shard needs a few."""
    note = _read_note(path)
    return frozenset(row["scene"] for row in note["rows"]) if note else frozenset()


def finished(work: Path, shard: Shard) -> Mapping[str, Any] | None:
    """The note of a whole shard: `parts`, `rows` of the index, `images` (key, overlap, taken) of each, `sha256`.

    None when there is no such shard, or when it or its note is damaged.
    """
    note = _read_note(_note(work, shard))
    if note is None or note["parts"] != [asdict(part) for part in shard.parts]:
        return None
    whole = (work / shard.name).is_file() and io.sha256(work / shard.name) == note["sha256"]
    return note if whole else None


def _note(work: Path, shard: Shard) -> Path:
    return work / f"{shard.stem}.json"


def _read_note(path: Path) -> Mapping[str, Any] | None:
    try:
        content = io.read_json(path, mask_set.MADE_BY)
    except DataError:
        return None
    whole = isinstance(content, dict) and content.keys() == {"of", "sha256"}
    return content["of"] if whole and content["sha256"] == _hash_of(content["of"]) else None


def _hash_of(note: object) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Collected:
    """The shards of a plan together."""

    index: pa.Table
    overlaps: list[dict[str, NDArray[np.int64]]]  # per scene: camera -> pixel sums (6, 2)
    taken: int  # images whose mask is an earlier set's


def collect(work: Path, plan: Sequence[Shard]) -> Collected:
    """The index and the sums of finished shards; every hash is checked. Raises DataError naming absent shards."""
    lost, parts, taken = list[str](), list[pa.Table](), 0
    overlaps: dict[str, dict[str, NDArray[np.int64]]] = {}
    for shard in plan:
        note = finished(work, shard)
        if note is None:
            lost.append(shard.name)
            continue
        parts.append(mask_set.table_of(note["rows"]))
        for row, image in zip(note["rows"], note["images"], strict=True):
            taken += image["taken"]
            if image["overlap"] is not None:  # by scene: scenes are independent, images of one are not
                of_scene, camera = overlaps.setdefault(row["scene"], {}), row["camera"]
                of_scene[camera] = of_scene.get(camera, 0) + np.array(image["overlap"], np.int64)
    if lost:
        got = f"{len(plan) - len(lost)}; not there or damaged: {', '.join(lost[:3])}{', ...' * (len(lost) > 3)}"
        raise DataError(expected=f"{len(plan)} finished shards in {work}", got=got, fix=f"run `{mask_set.MADE_BY}`")
    return Collected(pa.concat_tables(parts or [mask_set.table_of([])]), list(overlaps.values()), taken)


def keep_only(work: Path) -> None:
    """Mark `work` as published, and remove the work of sets published before it.

    It is kept: a run killed after this and before DVC has stored the set, or one with only the report changed, makes
    nothing again. It takes no room until DVC stores the set, then as much as the set. Work in progress stays.
    """
    (work / PUBLISHED).touch()
    for other in WORK.glob(f"*/{PUBLISHED}"):
        if other.parent != work:
            shutil.rmtree(other.parent)
