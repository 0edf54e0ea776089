import pytest
import torch
from pytorch_msssim import ssim as reference

from stages.reconstruction.losses import branch_loss, ssim, total_loss


def make_pair(size_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    target = torch.rand(4, 3, *size_hw, generator=random)
    return (target + 0.2 * torch.randn(target.shape, generator=random)).clamp(0, 1), target


@pytest.mark.parametrize(("size_hw", "window_px"), [((49, 84), 11), ((49, 84), 7), ((11, 30), 11), ((16, 16), 5)])
def test_ssim_equals_pytorch_msssim(size_hw, window_px):
    x, y = make_pair(size_hw)
    torch.testing.assert_close(
        ssim(x, y, window_px), reference(x, y, data_range=1.0, win_size=window_px), atol=1e-5, rtol=0
    )


def test_the_gradient_of_ssim_equals_pytorch_msssim():
    x, y = make_pair((20, 24))
    grads = []
    for similarity in (
        ssim(a := x.clone().requires_grad_(), y, 11),
        reference(b := x.clone().requires_grad_(), y, data_range=1.0),
    ):
        similarity.backward()
    grads = [a.grad, b.grad]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-3)


def test_equal_images_are_wholly_similar_even_when_black():
    x, _ = make_pair((12, 12))
    for image in (x, torch.zeros_like(x)):
        assert float(ssim(image, image, 11)) == pytest.approx(1.0, abs=1e-6)


def test_a_branch_weighs_dissimilarity_and_squared_error():
    x, y = make_pair((16, 16))
    squared = float((x - y).square().mean())
    assert float(branch_loss(x, y, 0.0, 11)) == pytest.approx(squared)
    assert float(branch_loss(x, y, 1.0, 11)) == pytest.approx(1 - float(ssim(x, y, 11)))
    wanted = 0.2 * (1 - float(ssim(x, y, 11))) + 0.8 * squared
    assert float(branch_loss(x, y, 0.2, 11)) == pytest.approx(wanted)


def test_the_total_weighs_foreground_by_alpha():
    fore, back = torch.tensor(2.0), torch.tensor(10.0)
    assert [float(total_loss(fore, back, alpha)) for alpha in (0.0, 0.5, 1.0)] == [10.0, 6.0, 2.0]
