"""A few random images of two scenes with masks, a view of 2 x 3 tokens, and the tower of the tiny model."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tiny import make_tiny_model

from stages.backbone.vision import FastTower
from stages.masks import mask_set
from stages.masks.base import Mask
from stages.training.data import Picture, View

VIEW = View(size_px=(84, 56), fit="stretch", pixels_per_token=4)
SIZE_PX = (168, 112)  # of the files, twice the view's


def make_tower() -> FastTower:
    """The same weights each time."""
    return FastTower(make_tiny_model())


def write_pictures(folder: Path, count: int = 5) -> list[Picture]:
    """`<folder>/<i>.png`, and a mask of each in `<folder>/masks` whose left half is foreground."""
    pictures = [Picture(f"token{i}", f"scene-{i % 2}", folder / f"{i}.png") for i in range(count)]
    for i, picture in enumerate(pictures):
        write_image(picture.path, i)
    members = mask_set.write_shard(
        folder / "work" / "all.tar", [(p.token, Mask(left_half(), (), boxes())) for p in pictures]
    )
    notes = {"sample": "", "camera": "", "shard": "all.tar", "split": "train"}
    rows = [row | notes | {"scene": p.scene} for row, p in zip(members, pictures, strict=True)]
    mask_set.publish(folder / "work", folder / "masks", rows, {})
    return pictures


def write_image(path: Path, seed: int) -> None:
    """Random pixels."""
    W, H = SIZE_PX
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (H, W, 3), np.uint8))


def left_half() -> NDArray[np.bool_]:
    W, H = SIZE_PX
    return np.arange(W)[None].repeat(H, axis=0) < W // 2


def boxes() -> NDArray[np.float32]:
    return np.zeros((0, 4), np.float32)
