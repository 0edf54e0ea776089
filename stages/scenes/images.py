"""Camera images as arrays of the size that a vision tower reads."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import DataError

GREY = 127  # what fills the margin of a padded image


def read_image(path: Path, size_px: tuple[int, int], fit: str = "stretch") -> NDArray[np.uint8]:
    """The image (H, W, 3) RGB, brought to `size_px` = (W, H). Raises DataError unless it is there and decodes."""
    if not path.is_file():
        then = "complete the data set (embedded: `dvc repro make_world`)"
        raise DataError(expected=f"the image {path}", got="no such file", fix=then)
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(expected=f"an image in {path}", got="bytes that do not decode", fix="fetch the file again")
    return resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size_px, fit)


def resize(image: NDArray[np.uint8], size_px: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """`stretch` fills the frame; `pad` keeps the aspect and fills the margins at the right and below with grey."""
    import cv2  # here, so that a machine without it can import this module

    W, H = size_px
    if fit == "pad":
        scale = min(W / image.shape[1], H / image.shape[0])
        inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
        canvas = np.full((H, W, 3), GREY, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        return canvas
    if (image.shape[1], image.shape[0]) == (W, H):
        return image
    return np.asarray(cv2.resize(image, (W, H), interpolation=cv2.INTER_AREA), np.uint8)
