"""One behaviour for every pruner in the folder: a new one is tested by existing."""

from typing import Any

import pytest
import torch

from stages.backbone.mrope import image_positions
from stages.errors import DataError, ParamsError
from stages.pruning import base
from stages.pruning.base import Kept, ScoringPruner, TokenView

GRID = (4, 6)
OPTIONS: dict[str, dict[str, Any]] = {"random_keep": {"seed": 1}}
NEEDS_WEIGHTS = {"recon"}  # its own file tests it with a small checkpoint
METHODS = [name for name in base.available() if name not in NEEDS_WEIGHTS]


def make_view(B: int, seed: int = 0) -> TokenView:
    N, D = GRID[0] * GRID[1], 8
    tokens = torch.randn(B, N, D, generator=torch.Generator().manual_seed(seed))
    return TokenView(tokens, GRID, image_positions(GRID, B), tuple(f"image{i}" for i in range(B)), "encoder")


def rows(view: TokenView, start: int, stop: int) -> TokenView:
    return TokenView(view.tokens[start:stop], GRID, view.positions[:, start:stop], view.keys[start:stop], view.encoder)


@pytest.mark.parametrize("name", METHODS)
def test_exactly_k_ascending_unique_indices(name: str) -> None:
    view = make_view(3)
    for K in [24] if name == "none" else [1, 6, 12, 23, 24]:
        kept = base.load(name, OPTIONS.get(name, {})).select(view, K)
        base.check_kept(kept, 3, 24, K, name)


@pytest.mark.parametrize("name", METHODS)
def test_keeping_all_is_the_identity(name: str) -> None:
    kept = base.load(name, OPTIONS.get(name, {})).select(make_view(2), 24)
    assert kept.indices.tolist() == [list(range(24))] * 2


@pytest.mark.parametrize("name", [m for m in METHODS if m != "none"])
def test_a_batch_equals_its_singles_and_a_second_call(name: str) -> None:
    pruner, view = base.load(name, OPTIONS.get(name, {})), make_view(3)
    together = pruner.select(view, 7).indices
    single = [pruner.select(rows(view, i, i + 1), 7).indices for i in range(3)]
    assert torch.equal(together, torch.cat(single))


@pytest.mark.parametrize("name", [m for m in METHODS if m != "none"])
def test_several_ratios_at_once_equal_one_by_one(name: str) -> None:
    pruner, view = base.load(name, OPTIONS.get(name, {})), make_view(2)
    at_once = [kept.indices.tolist() for kept in pruner.select_each(view, [18, 12, 6])]
    assert at_once == [pruner.select(view, K).indices.tolist() for K in (18, 12, 6)]


@pytest.mark.parametrize("name", METHODS)
def test_the_view_is_left_as_it_was(name: str) -> None:
    view = make_view(2)
    before = view.tokens.clone()
    base.load(name, OPTIONS.get(name, {})).select(view, 24)
    assert torch.equal(view.tokens, before)


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
