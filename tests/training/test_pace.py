"""The pace before a run: real passes on real batches that leave the run as it was."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_pruner import GRID, make_module, make_options, make_samples
from torch import Tensor

from stages.training import pace
from stages.training.data import Batch
from stages.training.model import Reconstruction
from stages.training.pace import measure_pace
from stages.training.work import Pace

CPU = torch.device("cpu")


def measured(module: Reconstruction, options: Any, count: int = 9, drawn: list[int] | None = None) -> Pace:
    """Of `count` batches of four images; `drawn` gets the place of each that was taken."""

    def batches() -> Iterator[Batch]:
        for place, batch in enumerate(make_samples(4).batches([range(4)] * count)):
            torch.rand(3)  # as a DataLoader that seeds its workers
            if drawn is not None:
                drawn.append(place)
            yield batch

    return measure_pace(module, batches, GRID, options, CPU)


@pytest.mark.parametrize(
    "changes",
    [{}, {"bf16": True}, {"recompute": True}, {"adversarial": False}, {"objective": "mask_prediction", "bf16": True}],
)
def test_measuring_leaves_weights_gradients_and_randomness_as_they_were(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(pace, "ENOUGH_S", 0.0)
    options = make_options(**changes)
    module = make_module(options)
    weights = copy.deepcopy(module.state_dict())
    held = next(iter(module.parameters()))
    held.grad = torch.ones_like(held)
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    assert measured(module, options).images == 2 * 4
    assert torch.equal(torch.rand(1), wanted)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(held.grad, torch.ones_like(held))
    assert [p for p in module.parameters() if p.grad is not None] == [held]


def test_it_takes_a_second_of_batches_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that moves 0.3 s a batch: one warms up, four make 1.2 s."""
    drawn: list[int] = []
    monkeypatch.setattr(pace.time, "perf_counter", lambda: 0.3 * len(drawn))
    options = make_options()
    found = measured(make_module(options), options, drawn=drawn)
    assert (found.images, len(drawn)) == (4 * 4, 5)
    assert (found.encode_s, found.learn_s) == pytest.approx((1.2, 0.0))  # the clock stands still while it learns


def test_the_gradient_reaches_every_weight_while_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is the whole backward pass: each trained weight is asked for, and gets a number."""
    monkeypatch.setattr(pace, "ENOUGH_S", 0.0)
    stock, seen = torch.autograd.grad, list[tuple[Tensor | None, ...]]()

    def watched(*args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        seen.append(stock(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(torch.autograd, "grad", watched)
    options = make_options()
    module = make_module(options)
    measured(module, options)
    assert len(seen) == 3
    assert all(len(found) == len(list(module.parameters())) for found in seen)
    assert not [gradient for found in seen for gradient in found if gradient is None]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_batches_are_refused_with_how_many_came(count: int) -> None:
    options = make_options()
    with pytest.raises(ValueError, match=f"2 to measure; came {max(count - 1, 0)} to measure"):
        measured(make_module(options), options, count)


def test_a_stream_of_batches_is_closed_when_enough_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ENOUGH_S", 0.0)
    closed = []

    def batches() -> Iterator[Batch]:
        try:
            yield from make_samples(4).batches([range(4)] * 9)
        finally:
            closed.append(True)

    options = make_options()
    held = batches()
    measure_pace(make_module(options), lambda: held, GRID, options, CPU)
    assert closed == [True]
