from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pruner import SHAPE

from stages.backbone.mrope import image_positions
from stages.core.errors import DataError
from stages.pruning import base, checkpoint, recon

GRID = (4, 6)


def make_folder(folder: Path, **config: Any) -> Path:
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


@pytest.mark.parametrize(
    ("config", "came"),
    [
        ({}, "recon"),
        ({"objective": "reconstruction", "adversarial": True}, "recon"),
        ({"objective": "reconstruction", "adversarial": False}, "foreground_only"),
        ({"objective": "mask_prediction", "adversarial": True}, "mask_prediction"),
        ({"objective": "mask_prediction", "adversarial": False}, "mask_prediction"),
    ],
)
def test_weights_are_the_method_that_they_were_trained_as_and_no_other(
    tmp_path: Path, config: dict[str, Any], came: str
) -> None:
    folder = make_folder(tmp_path, **config)
    for name in ("recon", "foreground_only", "mask_prediction"):
        if name == came:
            load(folder, name).select(make_view(), 6)
        else:
            with pytest.raises(DataError, match=f"trained as {name}; got weights that were trained as {came}"):
                load(folder, name).select(make_view(), 6)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, objective="mask_prediction")
    with pytest.raises(DataError, match="other"):
        load(folder).select(make_view("other"), 6)
