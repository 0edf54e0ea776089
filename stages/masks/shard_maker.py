"""The masks of one shard: annotated, written, compared with the truth where there is one.

A finished shard is not made again. It and beside it a JSON, with a hash of its own, stay in a work folder named by a
fingerprint of all that shapes them, outside of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the
shard in work.
"""

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import files
from stages.errors import DataError, ParamsError
from stages.masks import agreement, base, shards, writing
from stages.masks.plan import Shard, plan_shards
from stages.masks.recipe import Recipe
from stages.scenes.base import Camera, Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.scenes.oracle import read_class_map

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS without its lock daemon, Lustre mounted without flock
opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many shards it works on

Sums = dict[str, dict[str, NDArray[np.int64]]]  # scene -> camera -> pixel sums (6, 2) of `agreement.overlap`


def split_of_scene(root: str, version: str, splits: Sequence[str]) -> dict[str, str]:
    """Scene -> split, in the order of the splits. Raises ParamsError when two of them share a scene."""
    scenes, found = opened(root, version), dict[str, str]()
    for split in splits:
        names = scenes.split(split)
        shared = [name for name in names if name in found]
        if shared:
            came = f"{len(shared)} in both {found[shared[0]]} and {split} (first: {shared[0]})"
            raise ParamsError(wanted="splits without a common scene", came=came, then="edit scenes in params.yaml")
        found.update(dict.fromkeys(names, split))
    return found


def planned(recipe: Recipe, splits: Sequence[str]) -> list[Shard]:
    """The shards of a data set's splits."""
    split_of, scenes = split_of_scene(recipe.root, recipe.version, splits), opened(recipe.root, recipe.version)
    return plan_shards(
        split_of, {scene: len(scenes.tokens_of_scene(scene)) for scene in split_of}, recipe.images_per_shard
    )


@dataclass(frozen=True)
class ShardMaker:
    """Makes a shard of a plan, if it is not there and whole: `<work>/<name>` and, last, `<work>/<stem>.json`."""

    recipe: Recipe
    work: Path

    def __call__(self, shard: Shard) -> str:
        """Name of the shard, which is then finished. Another process that makes it is waited for."""
        if finished(self.work, shard) is None:
            with _alone(self.work / "locks" / shard.stem, f"make {shard.name}"):
                if finished(self.work, shard) is None:
                    self._make(shard)
        return shard.name

    def _make(self, shard: Shard) -> None:
        scenes, annotator = _ready(self.recipe.key())
        images = list(_images(scenes, shard))
        sums: Sums = {}
        written = writing.write_shard(self.work / shard.name, self._annotated(annotator, images, sums))
        places = (
            {"sample": frame.token, "scene": frame.scene, "camera": camera.channel, "split": shard.split}
            for frame, camera in images
        )
        note = {
            "parts": [asdict(part) for part in shard.parts],
            "rows": [{**row, **place, "shard": shard.name} for row, place in zip(written.rows, places, strict=True)],
            "sha256": written.sha256,  # not of what lies there: locks do not reach over all network file systems
            "overlap": {s: {c: sum_.tolist() for c, sum_ in cameras.items()} for s, cameras in sums.items()},
        }
        files.write_json(_note(self.work, shard), {"of": note, "sha256": _hash(note)})

    def _annotated(
        self, annotator: base.Annotator, images: Sequence[tuple[Frame, Camera]], sums: Sums
    ) -> Iterator[tuple[str, base.Mask]]:
        """Token and mask of each image; pixel sums go into `sums`, where there is a truth."""
        at_once = annotator.images_at_once
        batches = [images[first : first + at_once] for first in range(0, len(images), at_once)]
        stream = (
            annotator.stream(batches) if isinstance(annotator, base.Streaming) else map(annotator.annotate, batches)
        )
        for batch, masks in zip(batches, stream, strict=True):
            for (frame, camera), mask in zip(batch, masks, strict=True):
                if self.recipe.oracle_root is not None and mask.classes is not None:
                    truth = read_class_map(Path(self.recipe.oracle_root), frame, camera.channel)
                    overlap, of_scene = agreement.overlap(mask.classes, truth), sums.setdefault(frame.scene, {})
                    of_scene[camera.channel] = of_scene.get(camera.channel, np.zeros_like(overlap)) + overlap
                yield camera.token, mask


@contextmanager
def _alone(lock: Path, what: str) -> Iterator[None]:
    """`files.alone`; without it where the file system has no locks: two writers then only work for nothing."""
    with ExitStack() as held:
        try:
            held.enter_context(files.alone(lock, what))
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def annotator_of(recipe: Recipe) -> base.Annotator:
    """The annotator of a recipe, made once in a process; its models come with its first image."""
    return _ready(recipe.key())[1]


@lru_cache(maxsize=1)
def _ready(key: str) -> tuple[Scenes, base.Annotator]:
    recipe = Recipe(**json.loads(key))
    scenes = opened(recipe.root, recipe.version)
    return scenes, base.load(recipe.annotator, scenes, recipe.options)


def finished(work: Path, shard: Shard) -> Mapping[str, Any] | None:
    """What is noted of a whole shard: `parts`, `rows` of the index, `sha256`, `overlap` by scene and camera.

    None when there is no such shard, or when it or its note is damaged.
    """
    try:
        held = files.read_json(_note(work, shard), shards.MADE_BY)
    except DataError:
        return None
    if not isinstance(held, dict) or held.keys() != {"of", "sha256"} or held["sha256"] != _hash(held["of"]):
        return None
    note: Mapping[str, Any] = held["of"]
    whole = (work / shard.name).is_file() and files.sha256(work / shard.name) == note["sha256"]
    return note if whole and note["parts"] == [asdict(part) for part in shard.parts] else None


def _hash(note: object) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def _note(work: Path, shard: Shard) -> Path:
    return work / f"{shard.stem}.json"


def _images(scenes: Scenes, shard: Shard) -> Iterator[tuple[Frame, Camera]]:
    """Key-frame images by scene and time, then in the order of CAMERAS."""
    for part in shard.parts:
        for token in scenes.tokens_of_scene(part.scene)[part.start : part.stop]:
            frame = scenes.frame(token)
            for camera in frame.cameras.values():
                yield frame, camera
