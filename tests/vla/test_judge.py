"""What the recipe says of the driver it made."""

from pathlib import Path

import pytest
import torch

from stages.vla.bounds import read_blind_floor
from stages.vla.recipe.blind import write_blind_floor
from stages.vla.recipe.judge import blind_plans, errors_m


def test_the_error_is_the_mean_of_those_at_one_two_and_three_seconds() -> None:
    plan = torch.zeros(1, 6, 2)
    plan[0, :, 0] = torch.tensor([9.0, 1.0, 9.0, 2.0, 9.0, 6.0])  # steps of 0.5 s; those in between do not count
    assert errors_m(plan, torch.zeros(1, 6, 2)).tolist() == [3.0]


def test_the_blind_guess_is_the_median_at_the_nearest_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.vla.recipe.judge.NEIGHBOURS", 3)
    speed = torch.tensor([1.0, 1.1, 1.2, 9.0])
    future = torch.tensor([1.0, 2.0, 30.0, 500.0])[:, None, None].expand(4, 6, 2)
    assert blind_plans(speed, future, torch.tensor([1.0]))[0].unique().tolist() == [2.0]


def test_the_written_floor_is_read_back(tmp_path: Path) -> None:
    speed = torch.tensor([0.0, 0.3])
    write_blind_floor(tmp_path, speed, torch.ones(2, 6, 2) * 1.234)
    floor = read_blind_floor(tmp_path)
    assert floor.speeds_mps.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert set(floor.waypoints_m.flatten().tolist()) == {1.23}
