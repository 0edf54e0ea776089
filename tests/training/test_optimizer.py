import pytest
import torch

from stages.training.engine import ClippedAdamW
from stages.training.trainer import rate_share


def make_optimizer(first: torch.nn.Parameter, second: torch.nn.Parameter, *norms: float | None) -> ClippedAdamW:
    names = {"pruner": first, "decoder": second}
    groups = [
        {"name": name, "params": [parameter], "lr": 0.1, "clip_norm": norm}
        for (name, parameter), norm in zip(names.items(), norms, strict=True)
    ]
    return ClippedAdamW(groups, weight_decay=0.0, partitioned=False)


def test_a_huge_gradient_of_one_group_leaves_the_other_alone() -> None:
    first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    first.grad, second.grad = torch.tensor([3e4, 4e4]), torch.tensor([0.3, 0.4])
    optimizer = make_optimizer(first, second, 1.0, 1.0)
    optimizer.step()
    assert {name: float(norm) for name, norm in optimizer.norms.items()} == pytest.approx(
        {"pruner": 5e4, "decoder": 0.5}
    )
    torch.testing.assert_close(first.grad, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(second.grad, torch.tensor([0.3, 0.4]))


def test_each_group_has_a_limit_of_its_own() -> None:
    first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    first.grad, second.grad = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])
    make_optimizer(first, second, 2.5, None).step()
    torch.testing.assert_close(first.grad, torch.tensor([1.5, 2.0]))
    assert second.grad.tolist() == [3.0, 4.0]


def test_without_clipping_it_is_torchs_adamw() -> None:
    first, second = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    own = make_optimizer(first, second, None, None)
    same = torch.nn.Parameter(torch.ones(3))
    reference = torch.optim.AdamW([same], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        first.grad = second.grad = None
        first.grad, second.grad, same.grad = (torch.tensor([1.0, -2.0, 0.5]) for _ in range(3))
        own.step()
        reference.step()
    torch.testing.assert_close(first, same)


def test_the_rate_warms_up_and_then_falls_along_a_cosine() -> None:
    shares = [rate_share(step, 14, 4) for step in range(14)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate_share(9, 14, 4) == pytest.approx(0.5)
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert shares[-1] < 0.05
    assert rate_share(0, 10, 0) == 1.0


def test_a_group_that_starts_later_takes_the_same_course_in_the_steps_that_are_left() -> None:
    later = [rate_share(step, 20, 4, starts_at=6) for step in range(20)]
    assert later == [0.0] * 6 + [rate_share(step, 14, 4) for step in range(14)]
