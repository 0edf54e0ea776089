from dataclasses import replace

import pytest
import torch
from token_views import check_choice, check_cost, check_not_a_number_is_told, make_view

from stages.core.errors import DataError
from stages.pruning.cdpruner import Pruner, greedy_map, kernel, relevance


def test_relevance_goes_from_0_to_1_over_what_is_given():
    image = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]])
    torch.testing.assert_close(relevance(image, torch.tensor([[5.0, 0.0]])), torch.tensor([[0.0, 0.5, 1.0]]))


def test_where_all_tokens_are_alike_all_count_fully():
    assert relevance(torch.ones(1, 3, 2), torch.ones(1, 2)).tolist() == [[1, 1, 1]]


def test_of_two_equal_tokens_the_second_comes_last():
    features = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    assert greedy_map(kernel(features, torch.ones(4)), 4).tolist() == [0, 2, 3, 1]


def test_the_more_relevant_token_comes_first():
    assert greedy_map(kernel(torch.eye(3), torch.tensor([0.2, 0.9, 0.5])), 3).tolist() == [1, 2, 0]


def test_each_step_enlarges_the_determinant_most():
    random = torch.Generator().manual_seed(0)
    matrix = kernel(torch.randn(9, 6, generator=random), torch.rand(9, generator=random)).double()
    chosen: list[int] = []
    for _ in range(4):
        rest = [i for i in range(9) if i not in chosen]
        chosen.append(max(rest, key=lambda i: float(torch.linalg.det(matrix[[*chosen, i]][:, [*chosen, i]]))))
    assert greedy_map(matrix.float(), 4).tolist() == chosen


@pytest.mark.parametrize("features", [torch.ones(12, 3), torch.zeros(12, 3), torch.randn(12, 3), torch.eye(12)[:, :5]])
def test_more_tokens_than_the_rank_are_unique_all_the_same(features):
    assert sorted(greedy_map(kernel(features, torch.ones(12)), 12).tolist()) == list(range(12))


def test_its_choice_holds_to_the_contract():
    check_choice(Pruner(), 12)
    check_cost(Pruner(), 12)
    view = make_view()
    check_not_a_number_is_told(Pruner(), 12, replace(view, text=torch.full_like(view.text, torch.nan)))
    check_not_a_number_is_told(Pruner(), 12, replace(view, tokens=torch.full_like(view.tokens, torch.nan)))


def test_without_text_nothing_is_relevant():
    view = make_view()
    for text in (None, view.text[:, :0]):
        with pytest.raises(DataError, match="text after the last image"):
            Pruner().select(replace(view, text=text), 3)
