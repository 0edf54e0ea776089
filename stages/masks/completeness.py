"""Which masks a set lacks, or has too many: against the data set's own list, and between its cameras."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.scenes.base import CAMERAS
from stages.scenes.nuscenes import Scenes

Rows = Sequence[Mapping[str, Any]]
BySample = dict[str, dict[str, Mapping[str, Any]]]  # sample -> camera -> row of the index


def against(scenes: Scenes, split_of_scene: Mapping[str, str], rows: Rows) -> Iterator[str]:
    """A line for each scene, key frame or image of the splits that has no mask, is named otherwise, or is not theirs.

    A camera that a key frame lacks in the data set, too, is no fault.
    """
    left = by_sample(rows)
    for scene, split in split_of_scene.items():
        tokens = scenes.tokens_of_scene(scene)
        if not any(token in left for token in tokens):
            yield f"no mask of {scene} ({split}, {len(tokens)} key frames)"
            continue
        for token in tokens:
            held = left.pop(token, {})
            if not held.keys() >= set(CAMERAS):
                known = scenes.frame(token).cameras
                yield from _without([name for name in known if name not in held], token, scene)
            odd = [row for row in held.values() if (row["scene"], row["split"]) != (scene, split)]
            yield from (f"{row['token']} as of {row['scene']} ({row['split']}): {scene} ({split})" for row in odd)
    yield from (f"{len(held)} masks of sample {sample}, of no scene of the splits" for sample, held in left.items())


def between_cameras(rows: Rows) -> Iterator[str]:
    """A line for each key frame without a camera that others of the set have."""
    samples = by_sample(rows)
    cameras = [name for name in CAMERAS if any(name in held for held in samples.values())]
    for sample, held in samples.items():
        scene = next(iter(held.values()))["scene"]
        yield from _without([name for name in cameras if name not in held], sample, scene)


def by_sample(rows: Rows) -> BySample:
    """The rows of each key frame by camera."""
    found: BySample = {}
    for row in rows:
        found.setdefault(row["sample"], {})[row["camera"]] = row
    return found


def _without(cameras: Sequence[str], sample: str, scene: str) -> Iterator[str]:
    if cameras:
        yield f"no mask of {', '.join(cameras)} in sample {sample} of {scene}"
