"""Token arithmetic on grids that one can check by eye."""

import numpy as np
import pytest
import torch

from stages.backbone.tokens import foreground_share, gather_positions, gather_tokens, keep_count, top_k_ascending
from stages.core.errors import ParamsError


def test_keep_counts_are_those_of_the_paper() -> None:
    assert [keep_count(3249, p) for p in (25, 50, 75)] == [2436, 1624, 812]


def test_keep_count_is_the_guarded_floor_of_the_reference() -> None:
    table = np.load("tests/cases/keep_count_rounding.npz")["table"]
    for N, ratio, _, _, floor_guarded in table:
        if floor_guarded >= 1 and 0 <= ratio < 1:
            assert keep_count(int(N), ratio * 100) == int(floor_guarded)


@pytest.mark.parametrize("percent", [-1, 100, 250])
def test_a_ratio_outside_zero_to_hundred_is_refused(percent: int) -> None:
    with pytest.raises(ParamsError, match="0 <= p < 100"):
        keep_count(84, percent)


def test_a_ratio_that_would_keep_nothing_is_refused() -> None:
    with pytest.raises(ParamsError, match="keeps none"):
        keep_count(3, 99)


def test_top_k_is_in_reading_order_and_ties_go_to_the_earlier_token() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0]])
    assert top_k_ascending(scores, 2).tolist() == [[1, 2]]
    assert top_k_ascending(scores, 4).tolist() == [[0, 1, 2, 4]]


def test_gathered_tokens_and_positions_are_the_originals() -> None:
    tokens = torch.arange(8.0).view(1, 4, 2)
    positions = torch.arange(12).view(3, 1, 4)
    kept = torch.tensor([[1, 3]])
    assert gather_tokens(tokens, kept).tolist() == [[[2, 3], [6, 7]]]
    assert gather_positions(positions, kept).tolist() == [[[1, 3]], [[5, 7]], [[9, 11]]]


def test_foreground_share_of_a_quarter_covered_cell_is_a_quarter() -> None:
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[0, :2, :2] = True  # the upper left quarter of the left of two 4 x 4 cells
    assert foreground_share(mask, (1, 2)).tolist() == [[0.25, 0.0]]
