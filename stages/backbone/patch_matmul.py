"""The patch embedding of a Qwen2.5-VL tower as the matrix product that it is, for training on a CPU.

Its kernel covers one whole patch, so a convolution has nothing to slide over; oneDNN's weight gradient of it takes
3.4 times as long as the product's (10,752 patches, one thread). The model itself stays untouched.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class PatchMatmul(TorchFunctionMode):
    """Inside this context a conv3d whose kernel is as large as its input is computed by a matrix product."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv3d and args[0].shape[2:] == args[1].shape[2:]:
            return _product(args[0], args[1], args[2])
        return func(*args, **(kwargs or {}))


def _product(patches: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(P, C, T, H, W) patches and (D, C, T, H, W) kernels -> (P, D, 1, 1, 1)."""
    return F.linear(patches.flatten(1), weight.flatten(1), bias)[..., None, None, None]
