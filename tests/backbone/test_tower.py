"""The tower on a device and in a dtype of the caller's choice."""

from pathlib import Path

import pytest
import torch
from tiny import make_tiny_model

from stages.backbone.qwen import Model
from stages.backbone.vision import FastTower, _grid_beside_weights

CPU = torch.device("cpu")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_tower_in_bfloat16_is_the_one_of_a_model_that_is_loaded_in_bfloat16(
    tmp_path: Path, images: torch.Tensor
) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    loaded = FastTower(Model.from_pretrained(tmp_path, dtype=torch.bfloat16).eval())
    moved = FastTower(make_tiny_model()).to(CPU, torch.bfloat16)
    assert moved.dtype == loaded.dtype == torch.bfloat16
    assert moved.fingerprint == loaded.fingerprint
    assert torch.equal(moved.encode(images), loaded.encode(images))


def test_the_dtype_stays_unless_another_is_asked(images: torch.Tensor) -> None:
    tower = FastTower(make_tiny_model())
    before = tower.encode(images)
    assert tower.to(CPU) is tower
    assert (tower.device, tower.dtype) == (CPU, torch.float32)
    assert torch.equal(tower.encode(images), before)


def test_a_model_in_training_mode_around_it_gets_no_gradients_and_no_hooks(images: torch.Tensor) -> None:
    tower = FastTower(make_tiny_model())
    tokens = tower.encode(images)
    assert not tokens.requires_grad
    assert not tokens.is_inference()
    assert not tower._visual._forward_pre_hooks
    assert tower.encoded_images == 2


def test_the_grid_goes_where_the_weights_are() -> None:
    weights = torch.nn.Linear(2, 2, device="meta")
    (rows,), kwargs = _grid_beside_weights(weights, (7,), {"grid_thw": torch.tensor([[1, 4, 6]]), "more": 1})
    assert (rows, kwargs["more"], kwargs["grid_thw"].device.type) == (7, 1, "meta")
