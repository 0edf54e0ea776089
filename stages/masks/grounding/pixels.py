"""Camera images as one batch, and on the device at the sizes that both models were trained for."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from stages.core.errors import DataError
from stages.scenes.base import Camera
from stages.scenes.images import read_image

DINO_SIDES_PX = (800, 1333)  # the shorter side, unless the longer one would pass its own
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation


def read_batch(cameras: Sequence[Camera]) -> UInt8[Tensor, "B 3 H W"]:
    """The RGB images of one size, decoded side by side (OpenCV lets go of the interpreter).

    Raises DataError when an image is missing, does not decode, or has another size than the first of the batch.
    """
    sizes = {camera.size_px for camera in cameras}
    if len(sizes) != 1:
        got = ", ".join(f"{W} x {H}" for W, H in sorted(sizes))
        raise DataError(expected="images of one size in a batch", got=got, fix="set images_at_once: 1")
    with ThreadPoolExecutor(min(len(cameras), os.cpu_count() or 1)) as pool:
        images = list(pool.map(lambda camera: read_image(camera.path, camera.size_px), cameras))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def dino_size_px(size_px: tuple[int, int]) -> tuple[int, int]:
    """W, H that Grounding DINO reads (its RandomResize([800], max_size=1333)): 1333 x 750 of 1600 x 900."""
    short, long = sorted(size_px)
    side = round(min(float(DINO_SIDES_PX[0]), DINO_SIDES_PX[1] * short / long))
    other = int(side * long / short)
    return (other, side) if size_px[0] >= size_px[1] else (side, other)


def resized(pixels: UInt8[Tensor, "B 3 H W"], size_px: tuple[int, int]) -> Float[Tensor, "B 3 h w"]:
    """Bilinear with antialiasing, values 0-255: what Pillow does for both packages, but on the device, unrounded."""
    W, H = size_px
    return interpolate(pixels.float(), (H, W), mode="bilinear", align_corners=False, antialias=True)


def for_dino(pixels: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 h w"]:
    """Resized and normalised by ImageNet's mean and deviation."""
    mean, deviation = (torch.tensor(values, device=pixels.device)[:, None, None] for values in IMAGENET)
    size_px = dino_size_px((pixels.shape[-1], pixels.shape[-2]))
    return (resized(pixels, size_px) / 255 - mean) / deviation
