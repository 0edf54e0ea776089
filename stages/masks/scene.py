"""The masks of one scene: annotated, written as shards, compared with the truth where there is one.

A finished scene is not made again. Its shards, and a JSON beside them, stay in a work folder named by a fingerprint of
all that shapes them, outside of DVC's outs (DVC deletes those before it runs a stage).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import files
from stages.errors import ParamsError
from stages.masks import agreement, base, shards
from stages.scenes import layout
from stages.scenes.base import Camera, Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.scenes.oracle import read_class_map

WORK = Path("runs/masks")
CODE = (Path(__file__).parent, Path(layout.__file__).parent)  # stages/masks, stages/scenes

opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many scenes it works on


@dataclass(frozen=True)
class Recipe:
    """All that shapes the masks of a data set. A plain value, so that it can be sent to another process."""

    root: str
    version: str
    annotator: str
    options: Mapping[str, bool | int | float | str | None]
    images_per_shard: int
    oracle_root: str | None

    def work_folder(self) -> Path:
        """Where finished scenes wait: another option, table, map, truth or line of code, another folder."""
        code = {path.name: files.sha256(path) for folder in CODE for path in sorted(folder.glob("*.py"))}
        tables = layout.table_hashes(Path(self.root), self.version)
        truth = Path(self.oracle_root or "") / files.MANIFEST
        oracle = files.sha256(truth) if self.oracle_root and truth.is_file() else self.oracle_root
        return WORK / files.fingerprint(self.annotator, self.options, self.images_per_shard, oracle, tables, code)


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


@dataclass(frozen=True)
class SceneMaker:
    """Makes the masks of a scene, by its name."""

    recipe: Recipe
    work: Path

    def __call__(self, scene: str) -> dict[str, Any]:
        """What a scene gave: `rows` of the index (without split), `shards` (sha256 by name), `overlap` by camera."""
        note = self.work / f"{scene}.json"
        return _finished(self.work, note) or self._make(scene, note)

    def _make(self, scene: str, note: Path) -> dict[str, Any]:
        scenes, annotator = _ready(self.recipe.root, self.recipe.version, self.recipe.annotator, self._options())
        sums: dict[str, NDArray[np.int64]] = {}
        rows: list[shards.Row] = []
        made: dict[str, str] = {}
        images = _images(scenes, scene)
        while part := list(islice(images, self.recipe.images_per_shard)):
            shard = f"shards/{scene}-{len(made):03d}.tar"
            written = shards.write_shard(self.work / shard, self._annotated(annotator, part, sums))
            made[shard] = files.sha256(self.work / shard)
            for row, (frame, camera) in zip(written, part, strict=True):
                rows.append({**row, "sample": frame.token, "scene": scene, "camera": camera.channel, "shard": shard})
        result = {"rows": rows, "shards": made, "overlap": {name: value.tolist() for name, value in sums.items()}}
        files.write_json(note, result)
        return result

    def _options(self) -> tuple[tuple[str, Any], ...]:
        return tuple(sorted(self.recipe.options.items()))

    def _annotated(
        self, annotator: base.Annotator, part: list[tuple[Frame, Camera]], sums: dict[str, NDArray[np.int64]]
    ) -> Iterator[tuple[str, base.Mask]]:
        """Token and mask of each image; pixel sums by camera go into `sums`, where there is a truth."""
        for frame, camera in part:
            mask = annotator.annotate(frame, camera)
            if self.recipe.oracle_root is not None and mask.classes is not None:
                overlap = agreement.overlap(
                    mask.classes, read_class_map(Path(self.recipe.oracle_root), frame, camera.channel)
                )
                sums[camera.channel] = sums.get(camera.channel, np.zeros_like(overlap)) + overlap
            yield camera.token, mask


@lru_cache(maxsize=1)
def _ready(
    root: str, version: str, annotator: str, options: tuple[tuple[str, Any], ...]
) -> tuple[Scenes, base.Annotator]:
    scenes = opened(root, version)
    return scenes, base.load(annotator, scenes, dict(options))


def _finished(work: Path, note: Path) -> dict[str, Any] | None:
    """What a former run wrote about a scene, if its shards are still whole."""
    if not note.is_file():
        return None
    result = files.read_json(note, shards.MADE_BY)
    whole = all((work / name).is_file() and files.sha256(work / name) == sha for name, sha in result["shards"].items())
    return result if whole else None


def _images(scenes: Scenes, scene: str) -> Iterator[tuple[Frame, Camera]]:
    """Key-frame images of a scene by time, then in the order of CAMERAS."""
    for token in scenes.tokens_of_scene(scene):
        frame = scenes.frame(token)
        for camera in frame.cameras.values():
            yield frame, camera
