import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from stages.core.errors import DataError
from stages.core.io import write_bytes, write_manifest
from stages.pruning import checkpoint

MADE_BY = "dvc repro train_pruner"


def build(config: dict[str, Any]) -> nn.Linear:
    return nn.Linear(config["width"], 2)


def make_module(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", make_module(), {"width": 3, "encoder": "abc"})
    return tmp_path / "model"


def replace_weights(folder: Path, data: bytes) -> None:
    """Other bytes under a manifest that agrees with them."""
    write_bytes(folder / "model.safetensors", data)
    write_manifest(folder, [folder / "model.safetensors", folder / "config.json"], {})


def test_what_is_saved_is_loaded(folder: Path) -> None:
    module, config = checkpoint.load(folder, build, MADE_BY)
    assert config == {"width": 3, "encoder": "abc"}
    assert torch.equal(module.weight, make_module().weight)
    assert torch.equal(module.bias, make_module().bias)


def test_equal_weights_make_equal_bytes(folder: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "again", make_module(), {"encoder": "abc", "width": 3})
    for name in ("model.safetensors", "config.json", "manifest.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "config.json"])
def test_a_missing_or_changed_file_is_named_with_the_command(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for change in (lambda path: path.unlink(), lambda path: path.write_bytes(data[:-3] + b"\0" + data[-2:])):
        change(folder / name)
        with pytest.raises(DataError, match=MADE_BY):
            checkpoint.load(folder, build, MADE_BY)


def test_a_pickle_under_another_name_is_refused_unread(folder: Path) -> None:
    replace_weights(folder, pickle.dumps({"weight": [1.0]}))
    with pytest.raises(DataError, match="safetensors"):
        checkpoint.load(folder, build, MADE_BY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(2, 4)}, r"size mismatch for weight.*dvc repro train_pruner"),
        ({"surplus": torch.zeros(1)}, r"Unexpected key.*surplus"),
        ({"bias": None}, r"Missing key.*bias"),
        ({"bias": torch.tensor([0.0, torch.nan])}, "finite numbers"),
    ],
)
def test_other_tensors_are_refused(folder: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {**make_module().state_dict(), **change}
    replace_weights(folder, to_bytes({name: tensor for name, tensor in tensors.items() if tensor is not None}))
    with pytest.raises(DataError, match=message):
        checkpoint.load(folder, build, MADE_BY)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    module = make_module()
    torch.nn.init.constant_(module.bias, torch.nan)
    with pytest.raises(DataError, match="NaN or infinity in bias"):
        checkpoint.save(tmp_path / "model", module, {"width": 3})
    assert not (tmp_path / "model").exists()
