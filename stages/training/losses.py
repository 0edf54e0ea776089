"""The hard choice of tokens (Eq. 3-5); the losses: both branches rebuilt (Eq. 7-8), or the mask predicted (Table 2)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pytorch_msssim import ssim
from torch import Tensor


def keep_mask(scores: Float[Tensor, "B N"], backward: Literal["sigmoid", "identity"]) -> Float[Tensor, "B N"]:
    """1 where a token is kept (S > 0, Eq. 3), else 0; exactly so in the forward pass, for finite scores.

    Departure: Eq. 4 as printed, M + stop_grad(1 - M), is 1 everywhere in the forward pass and has no gradient in S.
    Here the forward value is the hard mask and the gradient is that of a continuous function: the sigmoid of S, or S
    itself (`identity`, which lets scores grow without bound: research/embedded.md 3.5). The bracket is exactly 0 in
    the forward pass; `hard - soft.detach() + soft` would round to something else than 0 or 1 once S is large.
    """
    hard = (scores > 0).to(scores.dtype)
    soft = scores.sigmoid() if backward == "sigmoid" else scores
    return hard + (soft - soft.detach())


def image_losses(
    rebuilt: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"], ssim_weight: float, window_px: int
) -> Float[Tensor, " B"]:
    """L_x = lambda (1 - SSIM) + (1 - lambda) MSE of each image, Eq. 7, lambda = `ssim_weight`; images in [0, 1]."""
    squared = (rebuilt - target).square().mean(dim=(1, 2, 3))
    # Channels last: pytorch_msssim's blurs take half the time on a CPU, a step 11 % less
    rebuilt, target = (images.contiguous(memory_format=torch.channels_last) for images in (rebuilt, target))
    similar = ssim(rebuilt, target, data_range=1.0, size_average=False, win_size=window_px)
    return ssim_weight * (1 - similar) + (1 - ssim_weight) * squared


def total_loss(fore: Float[Tensor, ""], back: Float[Tensor, ""], alpha: float) -> Float[Tensor, ""]:
    """L = alpha L_fore + (1 - alpha) L_back, Eq. 8."""
    return alpha * fore + (1 - alpha) * back


def class_losses(
    scores: Float[Tensor, "B N"], foreground: Bool[Tensor, "B N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy of sigmoid(S) over foreground tokens, and over background tokens (0 where there are none).

    The mean of each image, then of all: how images are spread over ranks does not matter.

    True is foreground. The paper's Table 2 replaces pixel reconstruction by mask prediction without a formula; here
    both classes take the places of the branches, so that Eq. 8 joins them and `adversarial` has its meaning.
    """
    inside = foreground.to(scores.dtype)
    fore = (F.softplus(-scores) * inside).sum(dim=1) / inside.sum(dim=1).clamp_min(1)
    back = (F.softplus(scores) * (1 - inside)).sum(dim=1) / (1 - inside).sum(dim=1).clamp_min(1)
    return fore.mean(), back.mean()
