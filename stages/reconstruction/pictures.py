"""Which camera images a pruner learns from, and which scenes are kept from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import ParamsError


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


def held_out(pictures: Sequence[Picture], scenes: int, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(training, held out): all images of `scenes` scenes, drawn by `seed`, are kept from training.

    Raises ParamsError when no scene would be left.
    """
    names = scenes_of(pictures)
    if scenes >= len(names):
        raise ParamsError(
            wanted=f"fewer held-out scenes than the {len(names)} of the training split",
            came=f"{scenes}",
            then="lower train_pruner.held_out_scenes in params.yaml",
        )
    chosen = set(np.random.default_rng(seed).permutation(names)[:scenes].tolist())
    return [p for p in pictures if p.scene not in chosen], [p for p in pictures if p.scene in chosen]


def scenes_of(pictures: Sequence[Picture]) -> list[str]:
    """Names of the scenes that the images are of."""
    return sorted({picture.scene for picture in pictures})
