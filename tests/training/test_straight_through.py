import pytest
import torch

from stages.training.straight_through import keep_mask

SCORES = [[-30.0, -0.5, 0.0, 0.5, 30.0, 1e30]]


@pytest.mark.parametrize("backward", ["sigmoid", "identity"])
def test_the_forward_mask_is_exactly_zero_or_one(backward):
    assert keep_mask(torch.tensor(SCORES), backward).tolist() == [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]


def test_rounding_does_not_leak_into_the_mask():
    scores = torch.randn(1, 10_000, generator=torch.Generator().manual_seed(0)) * 1e4
    for backward in ("sigmoid", "identity"):
        assert set(keep_mask(scores, backward).unique().tolist()) == {0.0, 1.0}


def test_the_gradient_is_that_of_the_sigmoid():
    scores = torch.tensor([[-2.0, 0.0, 3.0]], requires_grad=True)
    keep_mask(scores, "sigmoid").sum().backward()
    share = scores.detach().sigmoid()
    torch.testing.assert_close(scores.grad, share * (1 - share))


def test_the_gradient_is_one_for_the_identity():
    scores = torch.tensor([[-2.0, 0.0, 3.0]], requires_grad=True)
    (keep_mask(scores, "identity") * torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert scores.grad.tolist() == [[1.0, 2.0, 3.0]]


def test_equation_4_as_printed_masks_nothing_and_teaches_nothing():
    scores = torch.tensor([[-2.0, 3.0]], requires_grad=True)
    hard = (scores > 0).float()
    printed = hard + (1 - hard).detach()
    assert printed.tolist() == [[1.0, 1.0]]
    assert not printed.requires_grad
    assert keep_mask(scores, "sigmoid").tolist() == [[0.0, 1.0]]


def test_the_background_mask_is_the_complement_with_the_opposite_gradient():
    scores = torch.tensor([[-2.0, 3.0]], requires_grad=True)
    keep = keep_mask(scores, "sigmoid")
    assert (1 - keep).tolist() == [[1.0, 0.0]]
    (keep + (1 - keep)).sum().backward()
    assert scores.grad.tolist() == [[0.0, 0.0]]
