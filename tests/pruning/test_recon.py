from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tiny_pruner import SHAPE
from token_views import check_kept

from stages.backbone.tokens import image_positions, top_k_ascending
from stages.core.errors import DataError
from stages.core.io import write_json, write_manifest
from stages.pruning import base, checkpoint
from stages.pruning.base import TokenView
from stages.pruning.recon import ReconPruner

GRID = (4, 6)


def make_module(seed: int = 0) -> ReconPruner:
    """Random weights, with statistics that are not 0 and 1."""
    torch.manual_seed(seed)
    module = ReconPruner(SHAPE)
    module.set_statistics(3 * torch.randn(50, SHAPE.width) + 1)
    return module.eval().requires_grad_(False)


def make_view(B: int = 2, grid: tuple[int, int] = GRID, encoder: str = "tower", before: int = 0) -> TokenView:
    N = grid[0] * grid[1]
    tokens = torch.randn(B, N, SHAPE.width, generator=torch.Generator().manual_seed(1))
    keys = tuple(f"image{i}" for i in range(B))
    return TokenView(tokens, (grid,), image_positions(grid, B) + before, keys, encoder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "recon", make_module(), {"layer": asdict(SHAPE), "encoder": "tower"})
    return tmp_path / "recon"


def load(folder: Path) -> base.Pruner:
    return base.load("recon", {"checkpoint": str(folder)})


def test_scores_are_the_scorer_of_tokens_times_query_after_the_layer() -> None:
    module, view = make_module(), make_view()
    standard = (view.tokens - module.mean) / module.std
    positions = torch.cat([torch.zeros(3, 2, 1, dtype=torch.int64), image_positions(GRID, 2) + 1], dim=2)
    fused = module.layer(torch.cat([module.query.expand(2, 1, -1), standard], dim=1), positions)
    wanted = (fused[:, 1:] * fused[:, :1]) @ module.scorer.weight[0] + module.scorer.bias
    torch.testing.assert_close(module(view.tokens, GRID), wanted)
    tokens = view.tokens.clone().requires_grad_()
    module(tokens, GRID)[0, 0].backward()
    assert (tokens.grad[0].abs().sum(dim=1) > 0).all()  # attention is full


def test_statistics_bring_tokens_to_mean_0_and_scale_1() -> None:
    tokens = 5 * torch.randn(2, 100, SHAPE.width) + 7
    module = make_module()
    module.set_statistics(tokens.flatten(0, 1))
    standard = module.standardise(tokens)
    assert float(standard.mean().abs()) < 1e-5
    assert float(standard.std()) == pytest.approx(1, abs=0.01)
    module.set_statistics(torch.ones(40, SHAPE.width))  # dimensions in which all are alike
    assert torch.isfinite(module.standardise(tokens)).all()


def test_the_loaded_pruner_keeps_what_the_trained_module_scores_highest(folder: Path) -> None:
    view = make_view(3)
    scores = make_module()(view.tokens, GRID)
    for K, kept in zip((18, 6), load(folder).select_each(view, [18, 6]), strict=True):
        assert torch.equal(check_kept(kept, view.tokens, K).indices, top_k_ascending(scores, K))


def test_the_place_of_the_image_in_the_prompt_does_not_matter(folder: Path) -> None:
    here, there = (load(folder).score(make_view(before=before)) for before in (0, 900))
    assert torch.equal(here, there)


@pytest.mark.parametrize("grid", [(9, 3), (1, 1)])
def test_a_pruner_trained_on_one_grid_scores_any_other(folder: Path, grid: tuple[int, int]) -> None:
    scores = load(folder).score(make_view(grid=grid))
    assert scores.shape == (2, grid[0] * grid[1])
    assert torch.isfinite(scores).all()


def test_half_precision_tokens_are_scored_alike_in_fp32(folder: Path) -> None:
    view = make_view()
    half = TokenView(view.tokens.bfloat16(), (GRID,), view.positions, view.keys, view.encoder)
    scores = load(folder).score(half)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, load(folder).score(view), atol=0.15, rtol=0.1)


def test_another_encoder_a_config_without_a_layer_and_a_missing_folder_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"other.*tower.*dvc repro train_pruner"):
        load(folder).select(make_view(encoder="other"), 3)
    write_json(folder / "config.json", {"encoder": "tower"})
    write_manifest(folder, [folder / "config.json", folder / "model.safetensors"], {})
    with pytest.raises(DataError, match="layer"):
        load(folder).select(make_view(), 3)
    with pytest.raises(DataError, match=r"no such folder.*dvc repro train_pruner"):
        load(folder / "absent").select(make_view(), 3)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({}, "recon"),
        ({"objective": "reconstruction", "adversarial": False}, "foreground_only"),
        ({"objective": "mask_prediction", "adversarial": True}, "mask_prediction"),
    ],
)
def test_weights_are_the_method_that_they_were_trained_as_and_no_other(
    folder: Path, tmp_path: Path, config: dict[str, object], method: str
) -> None:
    same = load(folder).select(make_view(), 6)
    checkpoint.save(tmp_path / "own", make_module(), {"layer": asdict(SHAPE), "encoder": "tower", **config})
    for name in ("recon", "foreground_only", "mask_prediction"):
        pruner = base.load(name, {"checkpoint": str(tmp_path / "own")})
        if name == method:
            assert torch.equal(pruner.select(make_view(), 6).indices, same.indices)
        else:
            with pytest.raises(DataError, match=f"trained as {method}"):
                pruner.select(make_view(), 6)
