from dataclasses import replace

import pytest
import torch
from token_views import check_choice, check_cost, make_view

from stages.core.errors import DataError, ParamsError
from stages.pruning.base import Cut
from stages.pruning.text_attention import Pruner, text_scores


def test_a_score_is_the_mean_over_heads_and_rows():
    attention = torch.tensor([[[[1.0, 0.0], [0.2, 0.8]], [[0.4, 0.6], [0.0, 1.0]]]])
    torch.testing.assert_close(text_scores(attention), torch.tensor([[0.4, 0.6]]))


def test_it_asks_for_all_text_after_the_image_and_no_more():
    view, asked = make_view(), []

    def attention(n):
        asked.append(n)
        return torch.rand(2, 2, n, 48)

    Pruner().select(replace(view, attention=attention), 3)
    assert asked == [5]


def test_its_choice_holds_to_the_contract():
    assert Pruner(layer=3).cuts(48, 12, 28) == (Cut(3, 12),)
    check_choice(Pruner(), 12)
    check_cost(Pruner(), 12)


def test_a_prompt_without_text_after_the_image_is_refused():
    view = make_view()
    for text, came in ((view.text[:, :0], "ends with its image"), (None, "without a prompt")):
        with pytest.raises(DataError, match=came):
            Pruner().select(replace(view, text=text), 3)
    with pytest.raises(ParamsError, match="pruners.text_attention"):
        Pruner(layer=0)
