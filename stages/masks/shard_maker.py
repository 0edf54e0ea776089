"""The masks of one shard: taken over or annotated, written, compared with the truth where there is one.

A shard and beside it a JSON note, with a hash of its own, stay in a work folder named by a fingerprint of all that
shapes them, outside of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shard in work alone.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.core import io
from stages.core.errors import DataError
from stages.masks import agreement, base, mask_set
from stages.masks.base import Mask
from stages.masks.job import WORK, Job, Shard, keys, plan_shards, split_of_scene
from stages.scenes.base import Camera, Frame
from stages.scenes.nuscenes import open_scenes
from stages.scenes.oracle import read_class_map

PUBLISHED = "published"  # a file in the work folder of a set that was
opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many shards it works on


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
        written = mask_set.write_shard(self.work / shard.name, masks)
        places = (
            {"sample": frame.token, "scene": frame.scene, "camera": camera.channel, "split": shard.split}
            for frame, camera in images
        )
        note = {
            "parts": [asdict(part) for part in shard.parts],
            "rows": [{**row, **place, "shard": shard.name} for row, place in zip(written.rows, places, strict=True)],
            "images": notes,  # key, overlap, taken of each, in the order of the rows
            "sha256": written.sha256,  # of what was written, whatever another process has put in its place since
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

    tar: Path
    row: mask_set.Row
    overlap: Any  # pixel sums (6, 2) with the truth; None where there is no truth

    def read(self) -> mask_set.Encoded | None:
        """As it was written; None when a byte is other than noted, or the shard is gone."""
        classes_place = mask_set.class_map_place(self.row)
        members = [self._member(place) for place in (self.row, classes_place) if place is not None]
        if None in members:
            return None
        mask_png, classes_png = members[0], members[1] if classes_place else None
        found = {key: self.row[key] for key in ("phrases", "boxes")}
        assert mask_png is not None, "checked above"
        return mask_set.Encoded(self.row["token"], mask_png, classes_png, found, self.row["foreground_share"])

    def _member(self, place: Mapping[str, Any]) -> bytes | None:
        try:
            with self.tar.open("rb") as file:
                file.seek(place["offset"])
                data = file.read(place["size"])
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == place["sha256"] else None


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
                found[image["key"]] = EarlierMask(path.parent / row["shard"], row, image["overlap"])
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
        held = io.read_json(path, mask_set.MADE_BY)
    except DataError:
        return None
    if not isinstance(held, dict) or held.keys() != {"of", "sha256"} or held["sha256"] != _hash_of(held["of"]):
        return None
    note: Mapping[str, Any] = held["of"]
    return note


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
