from dataclasses import replace

import pytest
import torch
from token_views import attending, check_choice, check_cost, check_not_a_number_is_told, make_view

from stages.core.errors import DataError
from stages.pruning.masked_text_attention import Pruner, masked_ranks


def test_tokens_inside_the_mask_come_first_each_group_by_attention():
    attention = torch.tensor([[0.1, 0.4, 0.3, 0.2]])
    inside = torch.tensor([[True, False, True, False]])
    assert masked_ranks(attention, inside).argsort(descending=True).tolist() == [[2, 0, 1, 3]]


def test_the_smallest_differences_order_the_tokens_inside_the_mask():
    attention = torch.tensor([[1e-9, 2e-9, 3e-9, 0.9]])  # 1 + these are all 1 in fp32
    inside = torch.tensor([[True, True, True, False]])
    assert masked_ranks(attention, inside).argsort(descending=True).tolist() == [[2, 1, 0, 3]]


def test_of_equal_attention_the_earlier_token_stays():
    ranks = masked_ranks(torch.full((1, 4), 0.25), torch.zeros(1, 4, dtype=torch.bool))
    assert ranks.tolist() == [[3, 2, 1, 0]]


def test_more_than_the_threshold_is_inside():
    view = replace(make_view(1, ((1, 4),)), foreground=torch.tensor([[0.5, 0.51, 0.2, 0.9]]))
    assert Pruner(threshold=0.5).select(view, 2).indices.tolist() == [[1, 3]]


def test_its_choice_holds_to_the_contract():
    check_choice(Pruner(), 12)
    check_cost(Pruner(), 12)
    check_not_a_number_is_told(Pruner(), 12, attending(make_view(), torch.full((2, 2, 5, 48), torch.nan)))


def test_without_a_mask_it_cannot_rule():
    with pytest.raises(DataError, match="ground-truth mask"):
        Pruner().select(replace(make_view(), foreground=None), 3)
