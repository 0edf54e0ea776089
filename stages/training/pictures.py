"""Which camera images a pruner learns from, and which scenes are kept from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ParamsError


@dataclass(frozen=True)
class Picture:
    """One camera image of the data set."""

    token: str  # sample_data token
    scene: str
    path: Path


def pictures_of(scenes: Any, split: str) -> list[Picture]:
    """All camera images of a split's key frames (`scenes` as stages.scenes.nuscenes opens them)."""
    frames = (scenes.frame(token) for token in scenes.tokens(split))
    return [Picture(camera.token, frame.scene, camera.path) for frame in frames for camera in frame.cameras.values()]


def check_splits(pictures: Sequence[Picture], split_of: Mapping[str, str], train_split: str, eval_split: str) -> None:
    """Raise ParamsError when an image is of the evaluation split, or its mask of another than the training split.

    `split_of` is by sample_data token, as the index of the masks has it; an image without a mask is not judged here.
    """
    splits = [(picture, split_of.get(picture.token, train_split)) for picture in pictures]
    others = [(picture, split) for picture, split in splits if split == eval_split or split != train_split]
    if others:
        picture, split = others[0]
        raise ParamsError(
            expected=f"images of split {train_split} alone, none of {eval_split}, to learn from",
            got=f"{len(others)} of {len(pictures)} others (first: {picture.token} of {picture.scene}, split {split})",
            fix="edit scenes in params.yaml, or set train_pruner.other_splits: true (no figure is then a clean one)",
        )


def held_out(pictures: Sequence[Picture], scenes: int, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(training, held out): all images of `scenes` scenes, drawn by `seed`, are kept from training.

    Raises ParamsError when no scene would be left.
    """
    names = scenes_of(pictures)
    if scenes >= len(names):
        raise ParamsError(
            expected=f"fewer held-out scenes than the {len(names)} of the training split",
            got=f"{scenes}",
            fix="lower train_pruner.held_out_scenes in params.yaml",
        )
    chosen = set(np.random.default_rng(seed).permutation(names)[:scenes].tolist())
    return [p for p in pictures if p.scene not in chosen], [p for p in pictures if p.scene in chosen]


def scenes_of(pictures: Sequence[Picture]) -> list[str]:
    """Names of the scenes that the images are of."""
    return sorted({picture.scene for picture in pictures})
