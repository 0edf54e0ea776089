import pytest
import torch
from token_views import attending, check_choice, check_cost, check_not_a_number_is_told, make_view

from stages.core.errors import DataError, ParamsError
from stages.pruning.base import Cut, TokenView, row_attention_flops, tokens_by_layer
from stages.pruning.fastv import Pruner, last_row_scores


def test_a_score_is_the_mean_over_heads_of_the_last_row():
    attention = torch.tensor([[[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.6, 0.4]]]])
    torch.testing.assert_close(last_row_scores(attention), torch.tensor([[0.4, 0.6]]))


def test_the_papers_k_layers_read_everything():
    pruner = Pruner(layer=2)
    assert pruner.cuts(100, 25, 5) == (Cut(2, 25),)
    assert tokens_by_layer(pruner.cuts(100, 25, 5), 100, 5) == [100, 100, 25, 25, 25]


def test_what_the_last_token_attends_to_stays():
    view = make_view(1, ((2, 3),))
    attention = torch.zeros(1, 2, 5, 6)
    attention[:, :, 3, [0, 1]] = 0.5  # the token before the last one looks elsewhere
    attention[:, :, 4, [2, 5]] = 0.5
    assert Pruner().select(attending(view, attention), 2).indices.tolist() == [[2, 5]]


def test_its_choice_holds_to_the_contract():
    check_choice(Pruner(), 12)
    check_choice(Pruner(), 48)
    check_cost(Pruner(), 12)


def test_not_a_number_is_told():
    view = make_view()
    check_not_a_number_is_told(Pruner(), 12, attending(view, torch.full((2, 2, 5, 48), torch.nan)))


def test_a_row_costs_its_query_and_its_products_with_all_keys():
    assert row_attention_flops(rows=1, N=10, L=2, D=4) == 2 * 4 * 4 + 2 * 12 * 4


def test_before_the_first_layer_there_is_no_attention():
    view = make_view()
    with pytest.raises(DataError, match="no layer has read"):
        Pruner().select(TokenView(view.tokens, view.grids, view.positions, view.keys, view.encoder), 3)
    with pytest.raises(ParamsError, match="pruners.fastv"):
        Pruner(layer=0)
