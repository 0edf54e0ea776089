"""The evaluation of the small driver on held-out scenes of its pool."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_tiny_model

from stages.backbone.qwen import load_tokenizer
from stages.core.io import write_manifest
from stages.toy_driver.evaluation import Evaluation, blind_plans, errors_m, rankings, write_blind_floor
from stages.toy_driver.pool import CLASSES, Dataset
from stages.vla.plans import read_blind_floor
from stages.vla.prefill import Prompt
from stages.vla.toy import write_tokenizer


def test_the_error_is_the_mean_of_those_at_one_two_and_three_seconds() -> None:
    plan = torch.zeros(1, 6, 2)
    plan[0, :, 0] = torch.tensor([9.0, 1.0, 9.0, 2.0, 9.0, 6.0])  # steps of 0.5 s; those in between do not count
    assert errors_m(plan, torch.zeros(1, 6, 2)).tolist() == [3.0]


def test_the_blind_guess_is_the_median_at_the_nearest_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.toy_driver.evaluation.NEIGHBOURS", 3)
    speed = torch.tensor([1.0, 1.1, 1.2, 9.0])
    future = torch.tensor([1.0, 2.0, 30.0, 500.0])[:, None, None].expand(4, 6, 2)
    assert blind_plans(speed, future, torch.tensor([1.0]))[0].unique().tolist() == [2.0]


def test_the_written_floor_is_read_back(tmp_path: Path) -> None:
    speed = torch.tensor([0.0, 0.3])
    write_blind_floor(tmp_path, speed, torch.ones(2, 6, 2) * 1.234)
    write_manifest(tmp_path, [tmp_path / "blind_floor.json"], {})
    floor = read_blind_floor(tmp_path)
    assert floor.speeds_mps.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert set(floor.waypoints_m.flatten().tolist()) == {1.23}


def evaluation(folder: Path) -> Evaluation:
    """Six scenes of two rows, the last four held out; a row's only feature is its number. Three tokens side by side."""
    rows, words = torch.arange(12), torch.zeros(12, 1, dtype=torch.int64)
    features = rows[:, None, None].expand(12, 3, 1).half()
    shares = np.zeros((12, 3, CLASSES), np.float16)
    shares[:, 0, 1], shares[:, 1, 0], shares[:, 2, 4] = 1, 1, 0.02  # road; nothing; a far light
    truth = (torch.zeros(12, 6, 2), torch.zeros(12), torch.zeros(12, dtype=torch.int64))
    dataset = Dataset(features, (1, 3), Prompt(words, words), words, *truth, rows // 2, shares)
    write_tokenizer(folder)
    return Evaluation(make_tiny_model(), load_tokenizer(folder), dataset, torch.arange(4, 12))


def test_references_are_of_another_scene_and_of_the_truth(tmp_path: Path) -> None:
    """The other image is of another held-out scene; the oracle keeps a far light before road, the inverse neither."""
    asked = evaluation(tmp_path)
    seen = asked.other(asked.rows)[:, 0, 0].long()
    assert seen.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    assert bool((asked.dataset.scene[seen] != asked.dataset.scene[asked.rows]).all())
    ranks = rankings(asked.dataset)
    assert ranks["oracle"](5).argsort(descending=True).tolist() == [2, 0, 1]
    assert ranks["inverse"](5).argsort(descending=True).tolist() == [1, 0, 2]
    assert not torch.equal(ranks["random"](5), ranks["random"](6))
