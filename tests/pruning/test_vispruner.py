from dataclasses import replace

import pytest
import torch
from token_views import check_choice, check_cost, check_not_a_number_is_told, make_view

from stages.backbone.attention import VisionFacts
from stages.core.errors import DataError, ParamsError
from stages.pruning.vispruner import Pruner, attention_order, choose, important_count, least_alike


@pytest.mark.parametrize(("K", "important"), [(812, 407), (1624, 813), (2436, 1219)])
def test_an_odd_residual_takes_one_more_important_token(K, important):
    assert important_count(3249, K, 0.5) == important


def test_an_even_residual_takes_none_and_neither_does_a_full_one():
    assert important_count(64, 16, 0.5) == 8
    assert important_count(49, 24, 1.0) == 24


def test_of_equal_importance_the_earlier_comes_first():
    assert attention_order(torch.tensor([1.0, 3.0, 1.0, 3.0])).tolist() == [1, 3, 0, 2]


def test_the_token_most_like_another_leaves():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [-1.0, 0.0]])  # 2 is like 1; even are 0 and 2
    assert least_alike(features, 3).tolist() == [0, 1, 3]


def test_nothing_leaves_where_all_stay_and_all_where_none_does():
    features = torch.randn(6, 4)
    assert least_alike(features, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert least_alike(features, 0).tolist() == []


@pytest.mark.parametrize("N", [1, 2, 3, 12, 25])
def test_every_count_is_met(N):
    random = torch.Generator().manual_seed(N)
    importance, features = torch.rand(N, generator=random), torch.randn(N, 4, generator=random)
    for K in range(1, N + 1):
        for ratio in (0.0, 0.2, 0.5, 1.0):
            assert len({*torch.cat(choose(importance, features, K, ratio)).tolist()}) == K


def test_its_choice_holds_to_the_contract():
    for K in (1, 12, 47, 48):
        check_choice(Pruner(), K)
    check_choice(Pruner(), 9, make_view(grids=((5, 5),)))
    check_cost(Pruner(), 12)
    view = make_view()
    check_not_a_number_is_told(
        Pruner(), 12, replace(view, vision=VisionFacts(torch.full((2, 48), torch.nan), view.tokens))
    )
    check_not_a_number_is_told(Pruner(), 12, replace(view, tokens=torch.full_like(view.tokens, torch.nan)))


def test_without_the_towers_attention_it_refuses():
    assert Pruner.needs_vision
    with pytest.raises(DataError, match="vision tower"):
        Pruner().select(replace(make_view(), vision=None), 3)
    with pytest.raises(ParamsError, match="from 0 to 1"):
        Pruner(important_ratio=1.5)
