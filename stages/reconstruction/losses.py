"""The reconstruction loss (Eq. 7-8)."""

import torch
from jaxtyping import Float
from torch import Tensor

SIGMA_PX = 1.5  # of the Gaussian window, and the two constants: Wang et al. 2004, pytorch-msssim's defaults
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def branch_loss(
    rebuilt: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"], ssim_weight: float, window_px: int
) -> Float[Tensor, ""]:
    """L_x = lambda (1 - SSIM) + (1 - lambda) MSE, Eq. 7, with lambda = `ssim_weight`; images in [0, 1]."""
    squared = (rebuilt - target).square().mean()
    return ssim_weight * (1 - ssim(rebuilt, target, window_px)) + (1 - ssim_weight) * squared


def total_loss(fore: Float[Tensor, ""], back: Float[Tensor, ""], alpha: float) -> Float[Tensor, ""]:
    """L = alpha L_fore + (1 - alpha) L_back, Eq. 8."""
    return alpha * fore + (1 - alpha) * back


def ssim(x: Float[Tensor, "B 3 H W"], y: Float[Tensor, "B 3 H W"], window_px: int) -> Float[Tensor, ""]:
    """Mean structural similarity: pytorch-msssim's own on a GPU, the same sum as two matrix products on a CPU.

    Depth-wise convolutions take 3.5 times as long there (64 x 3 x 49 x 84, forward and backward, two threads).
    """
    if x.is_cuda:
        import pytorch_msssim

        return pytorch_msssim.ssim(x, y, data_range=1.0, win_size=window_px)
    return _ssim_by_products(x, y, window_px)


def _ssim_by_products(x: Float[Tensor, "B 3 H W"], y: Float[Tensor, "B 3 H W"], window_px: int) -> Float[Tensor, ""]:
    *_, H, W = x.shape
    down, across = _window_rows(H, window_px).to(x), _window_rows(W, window_px).to(x).T.contiguous()

    def blur(images: Tensor) -> Tensor:
        return down @ (images @ across)

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x + y * y) - mean_x.square() - mean_y.square()
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean()


def _window_rows(side_px: int, window_px: int) -> Float[Tensor, "V S"]:
    """Each row weighs one placement of the Gaussian window along a side; V = side - window + 1 of them."""
    offsets = torch.arange(window_px) - window_px // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA_PX**2))
    rows = torch.zeros(side_px - window_px + 1, side_px)
    for start, row in enumerate(rows):
        row[start : start + window_px] = window / window.sum()
    return rows
