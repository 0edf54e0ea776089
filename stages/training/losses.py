"""What the pruner learns by: both branches rebuilt (Eq. 7-8), or the mask told from the scores (Table 2)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SIGMA_PX = 1.5  # of the Gaussian window, and the two constants: Wang et al. 2004, pytorch-msssim's defaults
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


class Statistics(NamedTuple):
    """What SSIM needs of a target; no gradient reaches it, so it is worked out once, outside of the graph."""

    mean: Float[Tensor, "B 3 V U"]
    mean_square: Float[Tensor, "B 3 V U"]


def image_losses(
    rebuilt: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"], ssim_weight: float, window_px: int
) -> Float[Tensor, " B"]:
    """L_x = lambda (1 - SSIM) + (1 - lambda) MSE of each image, Eq. 7, lambda = `ssim_weight`; images in [0, 1]."""
    squared = (rebuilt - target).square().mean(dim=(1, 2, 3))
    similar = ssim(rebuilt, target, statistics(target, window_px), window_px)
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


@torch.no_grad()
def statistics(target: Float[Tensor, "B 3 H W"], window_px: int) -> Statistics:
    """Windowed means of a target and of its square."""
    return Statistics(_blur(target, window_px), _blur(target.square(), window_px))


def ssim(
    x: Float[Tensor, "B 3 H W"], y: Float[Tensor, "B 3 H W"], of_y: Statistics, window_px: int
) -> Float[Tensor, " B"]:
    """Mean structural similarity of each image, as pytorch-msssim's `ssim` gives it; `of_y` are y's statistics."""
    mean_x, mean_y = _blur(x, window_px), of_y.mean
    variances = _blur(x.square(), window_px) - mean_x.square() + of_y.mean_square - mean_y.square()
    covariance = _blur(x * y, window_px) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean(dim=(1, 2, 3))


def _blur(images: Float[Tensor, "B 3 H W"], window_px: int) -> Float[Tensor, "B 3 V U"]:
    """Gaussian means over the windows inside the image: pytorch-msssim's filter on a GPU, two products on a CPU.

    Its depth-wise convolutions take 3.5 times as long there (64 x 3 x 49 x 84, forward and backward, two threads).
    """
    if images.is_cuda:
        from pytorch_msssim.ssim import gaussian_filter

        return gaussian_filter(images, _window(window_px, images.device).expand(images.shape[1], 1, 1, -1))
    *_, H, W = images.shape
    down, across = (_window_rows(side, window_px, images.device) for side in (H, W))
    return down @ (images @ across.T)


def _window(window_px: int, device: torch.device) -> Float[Tensor, " w"]:
    """Made on the device: a copy from the host would make it wait."""
    offsets = torch.arange(window_px, device=device) - window_px // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA_PX**2))
    return window / window.sum()


def _window_rows(side_px: int, window_px: int, device: torch.device) -> Float[Tensor, "V S"]:
    """Each row weighs one placement of the Gaussian window along a side; V = side - window + 1 of them."""
    places = side_px - window_px + 1
    offsets = torch.arange(side_px, device=device) - torch.arange(places, device=device)[:, None]
    window = _window(window_px, device)
    inside = (offsets >= 0) & (offsets < window_px)
    return torch.where(inside, window[offsets.clamp(0, window_px - 1)], 0.0)
