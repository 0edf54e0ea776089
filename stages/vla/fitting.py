"""Front images at the size that a driver reads: one fixed size, or the released budget of pixels.

The budget is what LLaMA-Factory and Qwen2.5-VL's processor do one after the other (research/planning.md 2.5): an image
of more than 512 x 512 pixels is scaled down to that area, then both sides go to the nearest multiple of 28 px.
1600 x 900 becomes 682 x 384, then 672 x 392: 24 x 14 = 336 tokens.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from stages.backbone.patches import TOKEN_PX
from stages.core.errors import DataError
from stages.scenes.images import read_image

LONGEST = 200  # sides: beyond this ratio of long to short Qwen2.5-VL's processor refuses an image


def capped_size(size_px: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """W, H scaled down to at most `max_pixels`, fractions cut off."""
    W, H = size_px
    if max_pixels >= W * H:
        return W, H
    factor = math.sqrt(max_pixels / (W * H))
    return max(1, int(W * factor)), max(1, int(H * factor))


def whole_tokens(size_px: tuple[int, int]) -> tuple[int, int]:
    """W, H to the nearest multiples of 28 px, of halves the even one. Raises DataError for a strip of an image."""
    if max(size_px) > LONGEST * min(size_px):
        came = f"{size_px[0]} x {size_px[1]} px"
        raise DataError(
            expected=f"an image at most {LONGEST} times as long as wide", got=came, fix="check the data set"
        )
    W, H = (max(TOKEN_PX, round(side / TOKEN_PX) * TOKEN_PX) for side in size_px)
    return W, H


def fitted_size(image_px: tuple[int, int], size_px: tuple[int, int], fit: str, max_pixels: int) -> tuple[int, int]:
    """W, H that an image of `image_px` is brought to: `size_px`, or with `budget` what `max_pixels` leave of it."""
    return whole_tokens(capped_size(image_px, max_pixels)) if fit == "budget" else size_px


def read_fitted(path: Path, size_px: tuple[int, int], fit: str, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image, RGB. Raises DataError unless it is there and decodes.

    `stretch` and `pad` are what ReconPruner is trained on (`scenes.images`); `budget` resamples twice, bicubic, as the
    released pipeline does.
    """
    if fit != "budget":
        return read_image(path, size_px, fit)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (FileNotFoundError, UnidentifiedImageError, OSError) as error:
        raise DataError(expected=f"an image in {path}", got=str(error), fix="complete the data set") from error
    for size in (capped_size(image.size, max_pixels), fitted_size(image.size, size_px, fit, max_pixels)):
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)
