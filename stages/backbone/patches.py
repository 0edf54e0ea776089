"""Images as the patch rows that Qwen2.5-VL's vision tower reads, on the device where the image is."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from stages.core.errors import ParamsError

PATCH_PX = 14
MERGE = 2  # patches on a side of a merged token
TOKEN_PX = PATCH_PX * MERGE
FRAMES = 2  # a still image fills both frames of the temporal patch
# Mean and deviation of CLIP's images, which Qwen2.5-VL's preprocessor_config.json gives.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def token_grid(size_px: tuple[int, int]) -> tuple[int, int]:
    """(h, w) merged tokens of a W x H image. Raises ParamsError unless both sides are multiples of 28."""
    W, H = size_px
    if W % TOKEN_PX or H % TOKEN_PX or W < TOKEN_PX or H < TOKEN_PX:
        raise ParamsError(
            expected=f"an image size of multiples of {TOKEN_PX} px",
            got=f"{W} x {H}",
            fix="edit vla.size_px in params.yaml",
        )
    return H // TOKEN_PX, W // TOKEN_PX


def normalise(images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Pixels as the tower was trained on them."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def patchify(images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "P C"]:
    """Patch rows (channel, frame, y, x) of all images, the four patches of a merged token side by side.

    Reading order. P = B * (H / 14) * (W / 14); C = 3 * 2 * 14 * 14.
    """
    B, _, H, W = images.shape
    h, w = token_grid((W, H))
    cells = normalise(images).view(B, 3, h, MERGE, PATCH_PX, w, MERGE, PATCH_PX)
    rows = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)  # B h w 2 2 3 14 14
    rows = rows.unsqueeze(-3).expand(*rows.shape[:-2], FRAMES, PATCH_PX, PATCH_PX)
    return rows.reshape(B * h * w * MERGE * MERGE, -1)


class PatchMatmul(TorchFunctionMode):
    """Inside this context a conv3d whose kernel is as large as its input is computed by a matrix product.

    oneDNN's weight gradient of such a convolution takes 3.4 times as long on a CPU (10,752 patches, one thread). The
    model itself stays untouched.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv3d and args[0].shape[2:] == args[1].shape[2:]:
            patches, weight, bias = args[:3]  # (P, C, T, H, W), (D, C, T, H, W) -> (P, D, 1, 1, 1)
            return F.linear(patches.flatten(1), weight.flatten(1), bias)[..., None, None, None]
        return func(*args, **(kwargs or {}))
