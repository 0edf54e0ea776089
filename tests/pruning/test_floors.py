"""The methods that look at nothing."""

import torch

from stages.pruning.random_keep import random_scores
from stages.pruning.row_prior import row_scores


def test_the_row_prior_keeps_the_lowest_row_first_and_its_middle_before_its_ends() -> None:
    order = row_scores((2, 3), 1)[0].argsort(descending=True).tolist()
    assert order[0] == 4
    assert sorted(order[:3]) == [3, 4, 5]


def test_random_scores_depend_on_the_image_and_the_seed_only() -> None:
    assert torch.equal(random_scores(9, "a", 1), random_scores(9, "a", 1))
    assert not torch.equal(random_scores(9, "a", 1), random_scores(9, "b", 1))
    assert not torch.equal(random_scores(9, "a", 1), random_scores(9, "a", 2))
