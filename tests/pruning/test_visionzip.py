from dataclasses import replace

import pytest
import torch
from token_views import check_choice, check_cost, check_not_a_number_is_told, make_view

from stages.backbone.attention import VisionFacts
from stages.core.errors import DataError, ParamsError
from stages.pruning.visionzip import Pruner, contextual_targets, dominant, merge, others


def test_the_most_important_tokens_dominate_best_first():
    assert dominant(torch.tensor([[0.1, 0.5, 0.2, 0.5]]), 3).tolist() == [[1, 3, 2]]
    assert others(torch.tensor([[3, 1]]), 5).tolist() == [[0, 2, 4]]


def test_targets_stand_at_equal_steps():
    rest = torch.arange(100, 154)[None]
    assert contextual_targets(rest, 4).tolist() == [[100, 113, 126, 139]]


def test_a_target_takes_the_mean_of_those_nearest_to_it_and_keeps_itself():
    metric = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.8, 0.0]])
    tokens = torch.tensor([[10.0], [20.0], [1.0], [3.0]])
    merged = merge(metric, tokens, targets=torch.tensor([0, 1]), rest=torch.tensor([2, 3]))
    assert merged.tolist() == [[12.0], [20.0]]


def test_ten_of_64_are_merged_and_stand_where_their_targets_do():
    view = make_view(grids=((10, 10),))
    kept = Pruner().select(view, 64)
    assert kept.indices.shape == (2, 54)
    targets = contextual_targets(others(kept.indices, 100), 10)
    assert torch.equal(kept.extra_positions[:, 1], view.positions[:, 1, targets[1]])


def test_its_choice_holds_to_the_contract():
    for K in (1, 12, 47, 48):
        check_choice(Pruner(), K)
    check_cost(Pruner(), 12)
    view = make_view()
    broken = VisionFacts(view.vision.importance, torch.full((2, 48, 8), torch.nan))
    check_not_a_number_is_told(Pruner(), 12, replace(view, vision=broken))


def test_without_the_towers_facts_it_refuses():
    with pytest.raises(DataError, match="vision tower"):
        Pruner().select(replace(make_view(), vision=None), 3)
    with pytest.raises(ParamsError, match="below 1"):
        Pruner(contextual_share=1.0)
