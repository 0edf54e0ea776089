"""A pruner whose scores are remembered chooses as ever, is asked no more often, and is left as it was."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from every_pruner import METHODS, load, make_view, ranking

from stages.backbone.qwen import Model
from stages.pruning import base
from stages.pruning.base import Kept, Pruner, ScoringPruner, TokenView
from stages.vla.prefill import Prompt, prefill
from stages.vla.ranking import remembering

GRID = (4, 6)
PROMPT = Prompt(torch.tensor([[4, 7]] * 2), torch.tensor([[5, 9, 11]] * 2))


@dataclass(frozen=True)
class Counting(ScoringPruner):
    """Prefers later tokens, and counts how often it is asked."""

    asked: list[int]

    def score(self, view: TokenView) -> torch.Tensor:
        self.asked.append(1)
        B, N, _ = view.tokens.shape
        return torch.arange(float(N)).expand(B, N)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_method_chooses_the_same_tokens_and_those_that_rank_are_remembered(name: str) -> None:
    view, pruner = make_view(2, (GRID,)), load(name)
    twin, scores = remembering(pruner)
    for ours, theirs in zip(twin.select_each(view, [12, 6]), pruner.select_each(view, [12, 6]), strict=True):
        assert torch.equal(ours.indices, theirs.indices)
    assert list(scores) == (["image0", "image1"] if ranking(name) else [])
    for i, row in enumerate(scores.values()):
        best = sorted(np.argsort(-row, kind="stable")[:6].tolist())
        assert best == pruner.select(view, 6).indices[i].tolist()


def test_a_ranking_is_asked_once_for_all_ratios_and_keeps_its_name() -> None:
    pruner = Counting([])
    twin, scores = remembering(pruner)
    twin.select_each(make_view(2, (GRID,)), [12, 6])
    assert pruner.asked == [1]
    assert scores["image1"].tolist() == list(range(24))
    assert (type(twin), repr(twin)) == (Counting, repr(pruner))
    assert "score" not in vars(pruner)


def test_a_method_with_a_choice_of_its_own_keeps_it() -> None:
    class First(Counting):
        def select(self, view: TokenView, K: int) -> Kept:
            self.score(view)
            return Kept(torch.arange(K).expand(view.tokens.shape[0], K))

    twin, scores = remembering(First([]))
    assert twin.select(make_view(2, (GRID,)), 3).indices.tolist() == [[0, 1, 2]] * 2
    assert len(scores) == 2


def test_a_method_that_does_not_rank_is_passed_on() -> None:
    pruner: Pruner = base.load("divprune", {})
    assert remembering(pruner) == (pruner, {})


@torch.no_grad()
@pytest.mark.parametrize("name", ["fastv", "text_attention", "masked_text_attention"])
def test_inside_the_language_model_scores_of_all_tokens_are_remembered_once(tiny_model: Model, name: str) -> None:
    view, pruner = make_view(2, (GRID,)), load(name)
    twin, scores = remembering(pruner)
    for K in (12, 6):
        read = prefill(tiny_model, view, twin, K, PROMPT)
        assert torch.equal(read.kept, prefill(tiny_model, view, pruner, K, PROMPT).kept)
        for row, kept in zip(scores.values(), read.kept, strict=True):
            assert sorted(np.argsort(-row, kind="stable")[:K].tolist()) == kept.tolist()
    assert [row.shape for row in scores.values()] == [(24,), (24,)]
