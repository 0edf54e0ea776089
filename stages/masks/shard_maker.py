"""The masks of one shard: annotated, written, compared with the truth where there is one.

A finished shard is not made again, and of an unfinished one no mask that an earlier set has of the very same (`keys`,
`earlier`). A shard and beside it a JSON, with a hash of its own, stay in a work folder named by a fingerprint of all
that shapes them, outside of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shard in work.
"""

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core import io
from stages.core.errors import ParamsError
from stages.masks import base, earlier, writing
from stages.masks.annotating import Annotating
from stages.masks.plan import Shard, plan_shards
from stages.masks.recipe import Recipe
from stages.scenes.base import Camera, Frame
from stages.scenes.nuscenes import Scenes, open_scenes

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS without its lock daemon, Lustre mounted without flock
opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many shards it works on


def split_of_scene(root: str, version: str, splits: Sequence[str]) -> dict[str, str]:
    """Scene -> split, in the order of the splits. Raises ParamsError when two of them share a scene."""
    scenes, found = opened(root, version), dict[str, str]()
    for split in splits:
        names = scenes.split(split)
        shared = [name for name in names if name in found]
        if shared:
            came = f"{len(shared)} in both {found[shared[0]]} and {split} (first: {shared[0]})"
            raise ParamsError(expected="splits without a common scene", got=came, fix="edit scenes in params.yaml")
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
        held = earlier.held_of(self.work, {part.scene for part in shard.parts})
        annotating = Annotating(self.recipe, annotator, held)
        written = writing.write_shard(self.work / shard.name, annotating(images))
        places = (
            {"sample": frame.token, "scene": frame.scene, "camera": camera.channel, "split": shard.split}
            for frame, camera in images
        )
        note = {
            "parts": [asdict(part) for part in shard.parts],
            "rows": [{**row, **place, "shard": shard.name} for row, place in zip(written.rows, places, strict=True)],
            "images": [asdict(noted) for noted in annotating.noted],  # in the order of the rows
            "sha256": written.sha256,  # not of what lies there: locks do not reach over all network file systems
        }
        io.write_json(_note(self.work, shard), {"of": note, "sha256": earlier.hash_of(note)})


@contextmanager
def _alone(lock: Path, what: str) -> Iterator[None]:
    """`io.alone`; without it where the file system has no locks: two writers then only work for nothing."""
    with ExitStack() as held:
        try:
            held.enter_context(io.alone(lock, what))
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
    """What is noted of a whole shard: `parts`, `rows` of the index, `images` (key, overlap, taken) of each, `sha256`.

    None when there is no such shard, or when it or its note is damaged.
    """
    note = earlier.read_note(_note(work, shard))
    if note is None or note["parts"] != [asdict(part) for part in shard.parts]:
        return None
    whole = (work / shard.name).is_file() and io.sha256(work / shard.name) == note["sha256"]
    return note if whole else None


def _note(work: Path, shard: Shard) -> Path:
    return work / f"{shard.stem}.json"


def _images(scenes: Scenes, shard: Shard) -> Iterator[tuple[Frame, Camera]]:
    """Key-frame images by scene and time, then in the order of CAMERAS."""
    for part in shard.parts:
        for token in scenes.tokens_of_scene(part.scene)[part.start : part.stop]:
            frame = scenes.frame(token)
            for camera in frame.cameras.values():
                yield frame, camera
