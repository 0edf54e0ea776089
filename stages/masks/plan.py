"""Which images go into which shard: the unit of work and of restart. Pure: names and counts in, a plan out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from stages.scenes.base import CAMERAS


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
    """One tar file. Its scenes follow each other and are of one split."""

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


def plan_shards(split_of_scene: Mapping[str, str], key_frames: Mapping[str, int], images_per_shard: int) -> list[Shard]:
    """Shards of about so many images, in the order of the scenes; the scenes of a split stand together.

    A scene joins the shard before it while that brings the shard nearer to `images_per_shard`; one with more images
    is cut between key frames. So a scene that is appended changes no shard but the last of its split.
    """
    shards = []
    for split, scenes in groupby(split_of_scene, key=split_of_scene.__getitem__):
        parts = (part for scene in scenes for part in _cut(scene, key_frames[scene], images_per_shard))
        shards += [Shard(split, number, held) for number, held in enumerate(_joined(parts, images_per_shard))]
    return shards


def _cut(scene: str, key_frames: int, images_per_shard: int) -> Iterator[Part]:
    """The scene in as few parts of at most `images_per_shard` images as it takes, of equal length but for one frame."""
    pieces = -(-key_frames // max(1, images_per_shard // len(CAMERAS)))
    for piece in range(pieces):
        yield Part(scene, key_frames * piece // pieces, key_frames * (piece + 1) // pieces)


def _joined(parts: Iterator[Part], images_per_shard: int) -> Iterator[tuple[Part, ...]]:
    held: list[Part] = []
    images = 0
    for part in parts:
        if held and abs(images + part.images - images_per_shard) >= abs(images - images_per_shard):
            yield tuple(held)
            held, images = [], 0
        held.append(part)
        images += part.images
    if held:
        yield tuple(held)
