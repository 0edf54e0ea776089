"""Camera images as one batch, and on the device at the sizes that both models were trained for."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from stages.core.errors import DataError
from stages.scenes.base import Camera

DINO_SIDES_PX = (800, 1333)  # the shorter side, unless the longer one would pass its own
# Of JPEG and PNG: how the file begins, the marker before its pixels, and the one behind them. Neither can stand
# within the pixels of a JPEG; one within a thumbnail stands before them.
ENDS = ((b"\xff\xd8", b"\xff\xda", b"\xff\xd9"), (b"\x89PNG", b"IDAT", b"IEND"))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation


def read_batch(cameras: Sequence[Camera]) -> UInt8[Tensor, "B 3 H W"]:
    """The RGB images of one size, decoded side by side (OpenCV lets go of the interpreter).

    Raises DataError when an image is missing, cut off, does not decode, or is of another size than its record or the
    first of the batch.
    """
    sizes = {camera.size_px for camera in cameras}
    if len(sizes) != 1:
        got = ", ".join(f"{W} x {H}" for W, H in sorted(sizes))
        raise DataError(expected="images of one size in a batch", got=got, fix="set images_at_once: 1")
    with ThreadPoolExecutor(min(len(cameras), os.cpu_count() or 1)) as pool:
        images = list(pool.map(_read, cameras))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _read(camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    """One image, whole and as large as its record says: libjpeg paints what is cut off grey and calls it a success."""
    try:
        data = camera.path.read_bytes()
    except OSError as error:
        raise _refused(camera, error.strerror or type(error).__name__) from error
    if any(data.startswith(begin) and data.rfind(end) < data.rfind(middle) for begin, middle, end in ENDS):
        raise _refused(camera, f"{len(data)} bytes that end before the image does")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise _refused(camera, f"{len(data)} bytes that do not decode")
    size_px = (pixels.shape[1], pixels.shape[0])
    if size_px != camera.size_px:
        raise _refused(camera, f"one of {size_px[0]} x {size_px[1]}")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _refused(camera: Camera, got: str) -> DataError:
    W, H = camera.size_px
    return DataError(
        expected=f"an image of {W} x {H} in {camera.path} (sample_data {camera.token})",
        got=got,
        fix="fetch the file again (embedded: `dvc repro make_world`)",
    )


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
