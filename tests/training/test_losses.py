import math

import pytest
import torch
from pytorch_msssim import ssim as reference

from stages.training.losses import class_losses, image_losses, ssim, statistics, total_loss


def similarity(x: torch.Tensor, y: torch.Tensor, window_px: int) -> torch.Tensor:
    """SSIM of each image, the target's statistics worked out before."""
    return ssim(x, y, statistics(y, window_px), window_px)


def make_pair(size_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    target = torch.rand(4, 3, *size_hw, generator=random)
    return (target + 0.2 * torch.randn(target.shape, generator=random)).clamp(0, 1), target


@pytest.mark.parametrize(("size_hw", "window_px"), [((49, 84), 11), ((49, 84), 7), ((11, 30), 11), ((16, 16), 5)])
def test_ssim_equals_pytorch_msssim(size_hw, window_px):
    x, y = make_pair(size_hw)
    torch.testing.assert_close(
        similarity(x, y, window_px),
        reference(x, y, data_range=1.0, win_size=window_px, size_average=False),
        atol=1e-5,
        rtol=0,
    )


def test_the_gradient_of_ssim_equals_pytorch_msssim():
    x, y = make_pair((20, 24))
    grads = []
    for whole in (
        similarity(a := x.clone().requires_grad_(), y, 11).mean(),
        reference(b := x.clone().requires_grad_(), y, data_range=1.0),
    ):
        whole.backward()
    grads = [a.grad, b.grad]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-3)


def test_equal_images_are_wholly_similar_even_when_black():
    x, _ = make_pair((12, 12))
    for image in (x, torch.zeros_like(x)):
        assert similarity(image, image, 11).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def test_each_image_weighs_dissimilarity_and_squared_error() -> None:
    x, y = make_pair((16, 16))
    squared, unlike = (x - y).square().mean(dim=(1, 2, 3)), 1 - similarity(x, y, 11)
    torch.testing.assert_close(image_losses(x, y, 0.0, 11), squared)
    torch.testing.assert_close(image_losses(x, y, 1.0, 11), unlike)
    torch.testing.assert_close(image_losses(x, y, 0.2, 11), 0.2 * unlike + 0.8 * squared)


def test_the_targets_statistics_are_outside_of_the_graph() -> None:
    x, y = make_pair((16, 16))
    assert not any(part.requires_grad for part in statistics(y.requires_grad_(), 11))


def test_the_convolutions_that_a_gpu_takes_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = make_pair((20, 30))
    products = similarity(x, y, 7)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    torch.testing.assert_close(similarity(x, y, 7), products, atol=1e-6, rtol=0)


def test_mask_prediction_weighs_both_classes_whatever_their_shares() -> None:
    foreground = torch.tensor([[True, False, False, False]])
    fore, back = class_losses(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), foreground)
    assert float(fore) == pytest.approx(math.log(2))
    assert float(back) == pytest.approx(math.log(2))
    fore, back = class_losses(torch.tensor([[9.0, -9.0, -9.0, -9.0]]), foreground)
    assert float(fore) < 1e-3
    assert float(back) < 1e-3
    assert [float(part) for part in class_losses(torch.zeros(1, 4), foreground & False)][0] == 0.0


def test_the_total_weighs_foreground_by_alpha():
    fore, back = torch.tensor(2.0), torch.tensor(10.0)
    assert [float(total_loss(fore, back, alpha)) for alpha in (0.0, 0.5, 1.0)] == [10.0, 6.0, 2.0]
