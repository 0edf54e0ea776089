"""What the models are given: official checkpoints, and camera images as one batch at the sizes of their training.

Checkpoints are named by path and sha256, and read without running anything that they hold.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.base import Camera

DINO_SIDES_PX = (800, 1333)  # the shorter side, unless the longer one would pass its own
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation


@dataclass(frozen=True)
class Source:
    """Where an official checkpoint comes from."""

    file: str
    place: str

    def __str__(self) -> str:
        return f"{self.file} from {self.place}"


def require(path: Path, sha256: str | None, source: Source, key: str) -> str:
    """Return the hash. Raises DataError when the checkpoint is not there, ParamsError when params name no hash.

    `key` is the option of annotators.grounded_sam that names the hash. Reads nothing.
    """
    if not path.is_file():
        raise DataError(expected=f"the checkpoint {path}", got="no such file", fix=f"put {source} there")
    if sha256 is None:
        raise ParamsError(
            expected=f"the sha256 of {path} in annotators.grounded_sam.{key}",
            got="null: no file is trusted by its name",
            fix=f"take {source}, compare what `sha256sum {path}` prints with a source you trust, write it there",
        )
    return sha256


def weights_of(path: Path, sha256: str | None, source: Source, key: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint: those by name, or those as `model`, without the `module.` of data-parallel training.

    Raises as `require`, and DataError when the file has another hash or holds more than tensors.
    """
    named, fix = require(path, sha256, source, key), f"put {source} there again"
    actual = io.sha256(path)
    if actual != named:
        expected = f"{path} with sha256 {named} (annotators.grounded_sam.{key})"
        raise DataError(expected=expected, got=actual, fix=fix)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle's, zip's, torch's own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(expected=f"nothing but tensors in {path}", got=reason, fix=fix) from error
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(expected=f"tensors by name in {path}", got=type(content).__name__, fix=fix)
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def fill(model: nn.Module, weights: Mapping[str, Tensor], name: str, unused: Sequence[str]) -> nn.Module:
    """Return the model with exactly these weights but the `unused`. Raises DataError when names or shapes differ."""
    try:
        model.load_state_dict({key: tensor for key, tensor in weights.items() if key not in unused})
    except RuntimeError as error:
        raise DataError(
            expected=f"exactly the weights of {name}",
            got=" ".join(str(error).split())[:300],
            fix="name the checkpoint that belongs to the size in annotators.grounded_sam of params.yaml",
        ) from error
    return model


def read_batch(cameras: Sequence[Camera]) -> UInt8[Tensor, "B 3 H W"]:
    """RGB images of one size, decoded side by side (Pillow releases the interpreter's lock).

    Raises DataError when an image is missing, truncated, does not decode, or has another size than its record or the
    first of the batch.
    """
    sizes = {camera.size_px for camera in cameras}
    if len(sizes) != 1:
        got = ", ".join(f"{W} x {H}" for W, H in sorted(sizes))
        raise DataError(expected="images of one size in a batch", got=got, fix="set images_at_once: 1")
    with ThreadPoolExecutor(min(len(cameras), os.cpu_count() or 1)) as pool:
        return torch.from_numpy(np.stack(list(pool.map(_read, cameras)))).permute(0, 3, 1, 2)


def _read(camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    """One image, whole and as large as its record says; OpenCV would paint what is cut off grey without a word."""
    try:
        data = camera.path.read_bytes()
        pixels = np.array(Image.open(BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, of a damaged PNG
        raise _refused(camera, str(error)) from error
    if data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # zeros after its scan began
        raise _refused(camera, "a JPEG without an end marker")
    H, W = pixels.shape[:2]
    if camera.size_px != (W, H):
        raise _refused(camera, f"one of {W} x {H}")
    return pixels


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
