from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tiny_pruner import SHAPE

from stages.backbone.mrope import image_positions
from stages.errors import DataError
from stages.pruning import base, recon
from stages.registry import checkpoint

GRID = (4, 6)


def make_folder(folder: Path, **config: str) -> Path:
    torch.manual_seed(0)
    checkpoint.save(folder, recon.ReconPruner(SHAPE), {"layer": asdict(SHAPE), "encoder": "tower", **config})
    return folder


def make_view(encoder: str = "tower") -> base.TokenView:
    tokens = torch.randn(2, 24, SHAPE.width, generator=torch.Generator().manual_seed(1))
    return base.TokenView(tokens, (GRID,), image_positions(GRID, 2), ("a", "b"), encoder)


def load(folder: Path, name: str = "mask_prediction") -> base.Pruner:
    return base.load(name, {"checkpoint": str(folder)})


def test_it_scores_as_the_network_does_that_it_shares_with_recon(tmp_path: Path) -> None:
    kept = load(make_folder(tmp_path / "mask", objective="mask_prediction")).select(make_view(), 6)
    same = load(make_folder(tmp_path / "recon"), "recon").select(make_view(), 6)
    assert torch.equal(kept.indices, same.indices)
    base.check_kept(kept, make_view().tokens, 6, "mask_prediction")


def test_weights_trained_for_anything_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mask_prediction; got weights that were trained for reconstruction"):
        load(make_folder(tmp_path / "silent")).select(make_view(), 6)
    with pytest.raises(DataError, match="trained for reconstruction"):
        load(make_folder(tmp_path / "other", objective="reconstruction")).select(make_view(), 6)


def test_recon_refuses_weights_that_were_trained_by_mask_prediction(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trained for mask_prediction"):
        load(make_folder(tmp_path, objective="mask_prediction"), "recon").select(make_view(), 6)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, objective="mask_prediction")
    with pytest.raises(DataError, match="other"):
        load(folder).select(make_view("other"), 6)
