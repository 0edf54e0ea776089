"""The small driver's training: subsets of every kind, plan targets, a loop that is never lost."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from stages.core.errors import DataError
from stages.toy_driver.language_phase import soft_labels, subset
from stages.toy_driver.tower_phase import paint_target, plan_target
from stages.toy_driver.trainer import Run, Schedule, fit, learning_rate


def test_subsets_are_ascending_and_of_all_sizes() -> None:
    counts = set()
    for seed in range(40):
        kept = subset((3, 4), 3, Generator().manual_seed(seed))
        assert bool((kept.diff(dim=1) > 0).all())
        counts.add(kept.shape[1])
    assert min(counts) <= 3
    assert max(counts) == 12


def test_the_plan_target_of_constant_velocity_is_zero() -> None:
    speed = torch.tensor([4.0])
    straight = torch.stack([4.0 * torch.arange(1, 7) / 2, torch.zeros(6)], dim=1)[None]
    assert plan_target(straight, speed).abs().max() == 0
    assert plan_target(straight + 3, speed).unique().tolist() == [1]  # in units of 3 m


def test_a_token_paints_its_own_cell() -> None:
    images = torch.zeros(1, 3, 28, 56, dtype=torch.uint8)
    images[..., 28:] = 255  # the second of two tokens is white
    target = paint_target(images)
    assert target.shape == (1, 2, 588)
    assert [target[0, i].unique().tolist() for i in (0, 1)] == [[-0.5], [0.5]]


def test_soft_labels_spread_over_neighbouring_numbers_only() -> None:
    table = soft_labels(torch.tensor([1, 2, 3]), torch.tensor([4, 5]), 7)
    torch.testing.assert_close(table.sum(1), torch.ones(7))
    assert table[0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert table[2, 1] == table[2, 3] > 0
    assert table[2, 4] == 0


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))


def step_of(line: Line, stop_at: int | None = None):
    def step(i: int, generator: Generator) -> dict[str, Tensor]:
        if i == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(2, generator=generator)
        return {"loss": ((line.weight * x).sum() - x.sum()) ** 2}

    return step


def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.toy_driver.trainer.SAVE_EVERY_S", 0.0)
    schedule, steps = Schedule(steps=30, lr=0.05, seed=1, warmup=3), []
    whole, stopped, resumed = Line(), Line(), Line()
    fit("whole", whole, step_of(whole), schedule, Run(tmp_path, lambda values, i: None, 1))
    with pytest.raises(KeyboardInterrupt):
        fit("part", stopped, step_of(stopped, 17), schedule, Run(tmp_path, lambda values, i: None, 1))
    fit("part", resumed, step_of(resumed), schedule, Run(tmp_path, lambda values, i: steps.append(i), 1))
    assert torch.equal(resumed.weight, whole.weight)
    assert steps == [20, 29]


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    line = Line()
    nan = {"loss": line.weight.sum() * torch.nan}
    with pytest.raises(DataError, match="at step 0"):
        fit("line", line, lambda i, g: nan, Schedule(3, 0.1, 1), Run(tmp_path, lambda values, i: None, 1))


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    schedule = Schedule(steps=100, lr=1.0, seed=0, warmup=10)
    assert [learning_rate(step, schedule) for step in (0, 10, 100)] == pytest.approx([0.1, 1.0, 0.02])
