"""Finished shards as one mask set: the index, the sums for the report, and which work may go."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.masks import shards
from stages.masks.plan import Shard
from stages.masks.recipe import WORK
from stages.masks.shard_maker import finished

PUBLISHED = "published"  # a file in the work folder of a set that was


@dataclass(frozen=True)
class Collected:
    """What the shards of a plan hold together."""

    index: pa.Table
    overlaps: list[dict[str, NDArray[np.int64]]]  # per scene: camera -> pixel sums (6, 2)
    taken: int  # images whose mask is an earlier set's


def collect(work: Path, plan: Sequence[Shard]) -> Collected:
    """Read what was noted about each shard; every hash is checked. Raises DataError naming those that are not there."""
    images, lost, parts = list[Mapping[str, Any]](), list[str](), list[pa.Table]()
    for shard in plan:
        note = finished(work, shard)
        if note is None:
            lost.append(shard.name)
            continue
        places = ({key: row[key] for key in ("scene", "camera")} for row in note["rows"])
        images += [{**image, **place} for image, place in zip(note["images"], places, strict=True)]
        parts.append(shards.table_of(note["rows"]))
    if lost:
        came = f"{len(plan) - len(lost)}; not there or damaged: {', '.join(lost[:3])}{', ...' * (len(lost) > 3)}"
        raise DataError(expected=f"{len(plan)} finished shards in {work}", got=came, fix=f"run `{shards.MADE_BY}`")
    index = pa.concat_tables(parts) if parts else shards.table_of([])
    return Collected(index, merged(images), sum(image["taken"] for image in images))


def merged(images: Iterable[Mapping[str, Any]]) -> list[dict[str, NDArray[np.int64]]]:
    """Sums by scene: scenes are independent, images of one are not. `images` have scene, camera and overlap."""
    found: dict[str, dict[str, NDArray[np.int64]]] = {}
    for image in images:
        if image["overlap"] is not None:
            of_scene, camera = found.setdefault(image["scene"], {}), image["camera"]
            of_scene[camera] = of_scene.get(camera, 0) + np.array(image["overlap"], np.int64)
    return list(found.values())


def keep_only(work: Path) -> None:
    """Mark `work` as published, and remove the work of sets published before it.

    It is kept: a run killed after this and before DVC has stored the set, or one with only the report changed, makes
    nothing again. It takes no room until DVC stores the set, then as much as the set. Work in progress stays.
    """
    (work / PUBLISHED).touch()
    for other in WORK.glob(f"*/{PUBLISHED}"):
        if other.parent != work:
            shutil.rmtree(other.parent)
