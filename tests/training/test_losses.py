import math

import pytest
import torch
from pytorch_msssim import ssim

from stages.training.losses import class_losses, image_losses, keep_mask, total_loss

SCORES = [[-30.0, -0.5, 0.0, 0.5, 30.0, 1e30]]


def make_pair(size_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    target = torch.rand(4, 3, *size_hw, generator=random)
    return (target + 0.2 * torch.randn(target.shape, generator=random)).clamp(0, 1), target


def test_each_image_weighs_dissimilarity_and_squared_error() -> None:
    x, y = make_pair((16, 16))
    squared, unlike = (x - y).square().mean(dim=(1, 2, 3)), 1 - ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(image_losses(x, y, 0.0, 11), squared)
    torch.testing.assert_close(image_losses(x, y, 1.0, 11), unlike)
    torch.testing.assert_close(image_losses(x, y, 0.2, 11), 0.2 * unlike + 0.8 * squared)


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


@pytest.mark.parametrize("backward", ["sigmoid", "identity"])
def test_the_forward_mask_is_exactly_zero_or_one(backward):
    assert keep_mask(torch.tensor(SCORES), backward).tolist() == [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize("backward", ["sigmoid", "identity"])
def test_the_gradient_is_that_of_the_sigmoid_or_of_the_identity(backward):
    scores = torch.tensor([[-2.0, 0.0, 3.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 2.0, 3.0]])
    (keep_mask(scores, backward) * weights).sum().backward()
    share = scores.detach().sigmoid()
    torch.testing.assert_close(scores.grad, weights * share * (1 - share) if backward == "sigmoid" else weights)
    keep = keep_mask(scores, backward)
    assert torch.autograd.grad((keep + (1 - keep)).sum(), scores)[0].tolist() == [[0.0, 0.0, 0.0]]  # the complement's


def test_equation_4_as_printed_masks_nothing_and_teaches_nothing():
    scores = torch.tensor([[-2.0, 3.0]], requires_grad=True)
    hard = (scores > 0).float()
    printed = hard + (1 - hard).detach()
    assert printed.tolist() == [[1.0, 1.0]]
    assert not printed.requires_grad
    assert keep_mask(scores, "sigmoid").tolist() == [[0.0, 1.0]]
