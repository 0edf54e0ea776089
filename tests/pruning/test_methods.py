"""The short methods, each by numbers that one can check by eye.

What holds for all of them is in test_contract; outputs of the published code, DivPrune's order too, in tests/reference.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from token_views import attending, make_view

from stages.backbone.tokens import shares
from stages.core.errors import DataError, ParamsError
from stages.pruning import (
    cdpruner,
    divprune,
    fastv,
    masked_text_attention,
    sparsevlm,
    text_attention,
    tfps,
    visionzip,
    vispruner,
)
from stages.pruning.base import row_attention_flops, tokens_by_layer
from stages.pruning.random_keep import random_scores
from stages.pruning.row_prior import row_scores

CAMERAS = ((2, 3), (4, 4), (3, 6))


def test_a_row_costs_its_query_and_its_products_with_all_keys() -> None:
    assert row_attention_flops(rows=1, N=10, L=2, D=4) == 2 * 4 * 4 + 2 * 12 * 4


@pytest.mark.parametrize("method", [fastv, text_attention, masked_text_attention, tfps])
def test_the_layers_before_the_cut_read_everything(method) -> None:
    assert tokens_by_layer(method.Pruner(layer=2).cuts(100, 25, 5), 100, 5) == [100, 100, 25, 25, 25]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fastv.Pruner(layer=0), "pruners.fastv"),
        (lambda: text_attention.Pruner(layer=0), "pruners.text_attention"),
        (lambda: tfps.Pruner(layer=-1), "pruners.tfps"),
        (lambda: visionzip.Pruner(contextual_share=1.0), "below 1"),
        (lambda: vispruner.Pruner(important_ratio=1.5), "from 0 to 1"),
        (lambda: sparsevlm.Pruner(schedule="two_stage"), "single_stage or layer_average"),
    ],
)
def test_an_option_out_of_range_is_refused(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ParamsError, match=match):
        make()


@pytest.mark.parametrize(
    ("method", "missing", "match"),
    [
        (fastv, "attention", "attention of a decoder layer"),
        (text_attention, "text", "text after the last image"),
        (cdpruner, "text", "text after the last image"),
        (sparsevlm, "text", "text after the last image"),
        (masked_text_attention, "foreground", "ground-truth mask"),
        (visionzip, "vision", "vision tower"),
        (vispruner, "vision", "vision tower"),
    ],
)
def test_what_a_method_needs_and_the_view_lacks_is_named(method, missing: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        method.Pruner().select(replace(make_view(), **{missing: None}), 3)


# Attention in a layer


def test_fastv_keeps_what_the_last_token_attends_to() -> None:
    rows = torch.tensor([[[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.6, 0.4]]]])
    torch.testing.assert_close(fastv.last_row_scores(rows), torch.tensor([[0.4, 0.6]]))
    attention = torch.zeros(1, 2, 5, 6)
    attention[:, :, 3, [0, 1]] = 0.5  # the token before the last one looks elsewhere
    attention[:, :, 4, [2, 5]] = 0.5
    assert fastv.Pruner().select(attending(make_view(1, ((2, 3),)), attention), 2).indices.tolist() == [[2, 5]]


def test_text_attention_is_the_mean_over_heads_and_all_text_rows() -> None:
    rows = torch.tensor([[[[1.0, 0.0], [0.2, 0.8]], [[0.4, 0.6], [0.0, 1.0]]]])
    torch.testing.assert_close(text_attention.text_scores(rows), torch.tensor([[0.4, 0.6]]))
    asked = []
    view = replace(make_view(), attention=lambda n: asked.append(n) or torch.rand(2, 2, n, 48))
    text_attention.Pruner().select(view, 3)
    assert asked == [5]


@pytest.mark.parametrize(
    ("attention", "inside", "order"),
    [
        ([0.1, 0.4, 0.3, 0.2], [True, False, True, False], [2, 0, 1, 3]),
        ([1e-9, 2e-9, 3e-9, 0.9], [True, True, True, False], [2, 1, 0, 3]),  # 1 + these are all 1 in fp32
        ([0.25] * 4, [False] * 4, [0, 1, 2, 3]),
    ],
)
def test_tokens_inside_the_mask_come_first_each_group_by_attention(attention, inside, order) -> None:
    ranks = masked_text_attention.masked_ranks(torch.tensor([attention]), torch.tensor([inside]))
    assert ranks.argsort(descending=True).tolist() == [order]


def test_more_than_the_threshold_is_inside_the_mask() -> None:
    view = replace(make_view(1, ((1, 4),)), foreground=torch.tensor([[0.5, 0.51, 0.2, 0.9]]))
    assert masked_text_attention.Pruner(threshold=0.5).select(view, 2).indices.tolist() == [[1, 3]]


# Diversity


def test_relevance_goes_from_0_to_1_and_is_full_where_all_are_alike() -> None:
    image = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]])
    wanted = torch.tensor([[0.0, 0.5, 1.0]])
    torch.testing.assert_close(cdpruner.relevance(image, torch.tensor([[5.0, 0.0]])), wanted)
    assert cdpruner.relevance(torch.ones(1, 3, 2), torch.ones(1, 2)).tolist() == [[1, 1, 1]]


def test_cdpruner_takes_the_relevant_token_first_and_a_duplicate_last() -> None:
    features = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    assert cdpruner.greedy_map(cdpruner.kernel(features, torch.ones(4)), 4).tolist() == [0, 2, 3, 1]
    assert cdpruner.greedy_map(cdpruner.kernel(torch.eye(3), torch.tensor([0.2, 0.9, 0.5])), 3).tolist() == [1, 2, 0]


def test_each_step_of_cdpruner_enlarges_the_determinant_most() -> None:
    random = torch.Generator().manual_seed(0)
    matrix = cdpruner.kernel(torch.randn(9, 6, generator=random), torch.rand(9, generator=random)).double()
    chosen: list[int] = []
    for _ in range(4):
        rest = [i for i in range(9) if i not in chosen]
        chosen.append(max(rest, key=lambda i: float(torch.linalg.det(matrix[[*chosen, i]][:, [*chosen, i]]))))
    assert cdpruner.greedy_map(matrix.float(), 4).tolist() == chosen


@pytest.mark.parametrize("features", [torch.ones(12, 3), torch.zeros(12, 3), torch.eye(12)[:, :5]])
def test_more_tokens_than_the_rank_are_unique_all_the_same(features) -> None:
    order = cdpruner.greedy_map(cdpruner.kernel(features, torch.ones(12)), 12)
    assert sorted(order.tolist()) == list(range(12))


@pytest.mark.parametrize(
    ("sizes", "K", "wanted"),
    [
        ([10, 10, 10], 10, [4, 3, 3]),
        ([6, 16, 18], 10, [2, 4, 4]),  # 1.5, 4, 4.5: of equal remainders the earlier
        ([1, 99], 2, [1, 1]),  # .02 and 1.98
        ([5, 5, 5], 2, [1, 1, 0]),
        ([4, 6], 10, [4, 6]),
    ],
)
def test_cameras_share_k_in_proportion_to_their_tokens(sizes, K, wanted) -> None:
    assert shares(sizes, K) == wanted


def test_no_camera_gets_more_than_it_has_and_together_they_get_k() -> None:
    for sizes in ([6, 16, 18], [1, 1, 30], [1, 2, 3, 4, 100]):
        for K in range(1, sum(sizes) + 1):
            split = shares(sizes, K)
            assert sum(split) == K
            assert all(0 <= share <= size for share, size in zip(split, sizes, strict=True))
            assert min(split) >= 1 or len(sizes) > K


def test_tfps_prunes_each_camera_as_divprune_prunes_one() -> None:
    view = make_view(grids=CAMERAS)
    kept = tfps.Pruner().select(view, 10).indices[0]
    alone = divprune.Pruner().select(view.images()[1], 4).indices[0]
    assert kept[2:6].tolist() == (alone + 6).tolist()


# The vision tower's attention


def test_visionzips_dominant_tokens_are_the_most_important_and_its_targets_stand_at_equal_steps() -> None:
    assert visionzip.dominant(torch.tensor([[0.1, 0.5, 0.2, 0.5]]), 3).tolist() == [[1, 3, 2]]
    assert visionzip.others(torch.tensor([[3, 1]]), 5).tolist() == [[0, 2, 4]]
    assert visionzip.contextual_targets(torch.arange(100, 154)[None], 4).tolist() == [[100, 113, 126, 139]]


def test_a_target_takes_the_mean_of_those_nearest_to_it_and_keeps_itself() -> None:
    metric = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.8, 0.0]])
    tokens = torch.tensor([[10.0], [20.0], [1.0], [3.0]])
    merged = visionzip.merge(metric, tokens, targets=torch.tensor([0, 1]), rest=torch.tensor([2, 3]))
    assert merged.tolist() == [[12.0], [20.0]]


def test_ten_of_64_are_merged_and_stand_where_their_targets_do() -> None:
    view = make_view(grids=((10, 10),))
    kept = visionzip.Pruner().select(view, 64)
    assert kept.indices.shape == (2, 54)
    targets = visionzip.contextual_targets(visionzip.others(kept.indices, 100), 10)
    assert torch.equal(kept.extra_positions[:, 1], view.positions[:, 1, targets[1]])


def test_the_token_most_like_another_leaves() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [-1.0, 0.0]])  # 2 is like 1; even are 0 and 2
    assert [vispruner.least_alike(features, count).tolist() for count in (3, 4, 0)] == [[0, 1, 3], [0, 1, 2, 3], []]


# Those that look at nothing


def test_the_row_prior_keeps_the_lowest_row_first_and_its_middle_before_its_ends() -> None:
    order = row_scores((2, 3), 1)[0].argsort(descending=True).tolist()
    assert order[0] == 4
    assert sorted(order[:3]) == [3, 4, 5]


def test_random_scores_depend_on_the_image_and_the_seed_only() -> None:
    assert torch.equal(random_scores(9, "a", 1), random_scores(9, "a", 1))
    assert not torch.equal(random_scores(9, "a", 1), random_scores(9, "b", 1))
    assert not torch.equal(random_scores(9, "a", 1), random_scores(9, "a", 2))
