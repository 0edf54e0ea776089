"""One behaviour for every pruner in the folder: a new one is tested by existing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.backbone.mrope import image_positions
from stages.errors import DataError, ParamsError
from stages.pruning import base
from stages.pruning.base import Kept, Pruner, ScoringPruner, TokenView

GRID = (4, 6)
NEEDS_WEIGHTS = {"recon"}  # its own file tests it with a small checkpoint
METHODS = [name for name in base.available() if name not in NEEDS_WEIGHTS]
RULERS = {"oracle", "inverse"}  # they alone may look up the truth


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By method; the rulers' truth is a class map of noise for each of three images."""
    root = tmp_path_factory.mktemp("oracle")
    (root / "scene-0").mkdir()
    for i in range(3):
        classes = np.random.default_rng(i).integers(0, 6, (40, 60), np.uint8)
        Image.fromarray(classes).save(root / "scene-0" / f"front{i}.png")
    truth = {"oracle_root": str(root), "fit": "stretch"}
    return {"random_keep": {"seed": 1}, "oracle": truth, "inverse": truth}


@pytest.fixture
def pruner(name: str, options: dict[str, dict[str, Any]]) -> Pruner:
    return base.load(name, options.get(name, {}))


def make_view(B: int, seed: int = 0) -> TokenView:
    N, D = GRID[0] * GRID[1], 8
    tokens = torch.randn(B, N, D, generator=torch.Generator().manual_seed(seed))
    keys, sources = (tuple(f"{word}{i}" for i in range(B)) for word in ("image", "front"))
    return TokenView(tokens, GRID, image_positions(GRID, B), keys, "encoder", sources)


def rows(view: TokenView, start: int, stop: int) -> TokenView:
    part = slice(start, stop)
    return TokenView(
        view.tokens[part], GRID, view.positions[:, part], view.keys[part], view.encoder, view.sources[part]
    )


@pytest.mark.parametrize("name", METHODS)
def test_exactly_k_ascending_unique_indices(name: str, pruner: Pruner) -> None:
    view = make_view(3)
    for K in [24] if name == "none" else [1, 6, 12, 23, 24]:
        kept = pruner.select(view, K)
        base.check_kept(kept, 3, 24, K, name)


@pytest.mark.parametrize("name", METHODS)
def test_keeping_all_is_the_identity(pruner: Pruner) -> None:
    kept = pruner.select(make_view(2), 24)
    assert kept.indices.tolist() == [list(range(24))] * 2


@pytest.mark.parametrize("name", [m for m in METHODS if m != "none"])
def test_a_batch_equals_its_singles_and_a_second_call(pruner: Pruner) -> None:
    view = make_view(3)
    together = pruner.select(view, 7).indices
    single = [pruner.select(rows(view, i, i + 1), 7).indices for i in range(3)]
    assert torch.equal(together, torch.cat(single))


@pytest.mark.parametrize("name", [m for m in METHODS if m != "none"])
def test_several_ratios_at_once_equal_one_by_one(pruner: Pruner) -> None:
    view = make_view(2)
    at_once = [kept.indices.tolist() for kept in pruner.select_each(view, [18, 12, 6])]
    assert at_once == [pruner.select(view, K).indices.tolist() for K in (18, 12, 6)]


@pytest.mark.parametrize("name", METHODS)
def test_the_view_is_left_as_it_was(pruner: Pruner) -> None:
    view = make_view(2)
    before = view.tokens.clone()
    pruner.select(view, 24)
    assert torch.equal(view.tokens, before)


@pytest.mark.parametrize("name", [m for m in METHODS if m not in RULERS | {"none"}])
def test_a_method_under_test_does_not_need_to_know_which_image_it_is(pruner: Pruner) -> None:
    view = make_view(2)
    assert torch.equal(pruner.select(replace(view, sources=()), 7).indices, pruner.select(view, 7).indices)


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParamsError, match="did you mean 'divprune'"):
        base.load("divprun", {})


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParamsError, match="did you mean 'seed'"):
        base.load("random_keep", {"sed": 1})


def test_nan_scores_are_refused() -> None:
    class Broken(ScoringPruner):
        def score(self, view: TokenView) -> torch.Tensor:
            return torch.full(view.tokens.shape[:2], torch.nan)

    with pytest.raises(DataError, match="48 NaN"):
        Broken().select(make_view(2), 3)


@pytest.mark.parametrize(
    ("indices", "fault"),
    [([[0, 1]], "kept"), ([[0, 2, 2]], "unique"), ([[2, 1, 0]], "unique"), ([[0, 1, 24]], "outside")],
)
def test_the_host_refuses_what_breaks_the_contract(indices: list[list[int]], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        base.check_kept(Kept(torch.tensor(indices)), 1, 24, 3, "broken")
