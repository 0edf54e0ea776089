from dataclasses import replace

import pytest
import torch
from token_views import attending, make_view

from stages.core.errors import ParamsError
from stages.pruning.base import tokens_by_layer
from stages.pruning.sparsevlm import (
    PUBLISHED,
    Pruner,
    cluster_and_merge,
    layer_average_counts,
    rater_scores,
    recycle,
    single_stage_budget,
    text_raters,
)


def test_text_that_more_of_the_image_points_at_rates():
    visual = torch.tensor([[[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
    text = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]])  # 3/4, 1/4, 0 of the image, 1/3 on average
    assert text_raters(visual, text).tolist() == [[True, False, False]]
    assert text_raters(visual, text[:, 2:]).tolist() == [[True]]  # a single word rates


def test_only_the_raters_rows_score_whatever_the_other_prompt_has():
    attention = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]]).expand(2, 1, 3, 2)
    raters = torch.tensor([[False, True, True], [True, False, False]])
    torch.testing.assert_close(rater_scores(attention, raters), torch.tensor([[0.4, 0.6], [0.9, 0.1]]))


def test_three_in_ten_of_the_dropped_are_merged_into_a_tenth_of_them():
    assert [recycle(d) for d in (0, 1, 15, 52, 510)] == [(0, 0), (1, 1), (5, 1), (16, 2), (154, 16)]


def test_heaps_of_tokens_become_their_means():
    random = torch.Generator().manual_seed(1)
    heaps = torch.eye(3).repeat_interleave(6, dim=0) * 9 + 0.2 * torch.randn(18, 3, generator=random)
    clusters = cluster_and_merge(heaps, 3)
    assert sorted(clusters.assignment[::6].tolist()) == [0, 1, 2]
    assert torch.equal(clusters.assignment, clusters.assignment[::6].repeat_interleave(6))
    for heap in range(3):
        mean = heaps[6 * heap : 6 * heap + 6].mean(dim=0)
        torch.testing.assert_close(clusters.merged[clusters.assignment[6 * heap]], mean, atol=1e-5, rtol=0)


def test_equal_tokens_make_clusters_too():
    clusters = cluster_and_merge(torch.ones(12, 4), 2)
    assert clusters.centers.tolist() == [0, 1]
    assert torch.isfinite(clusters.merged).all()


@pytest.mark.parametrize(("K", "kept", "merged"), [(812, 736, 76), (1624, 1573, 51), (2436, 2410, 26)])
def test_budgets_of_the_papers_tokens(K, kept, merged):
    assert single_stage_budget(3249, K) == kept
    assert recycle(3249 - kept)[1] == merged
    assert single_stage_budget(40, 1) == 1  # one kept token leaves 39, which would make two clusters: none is merged


@pytest.mark.parametrize("layers", [17, 32])
@pytest.mark.parametrize("N", [576, 3249])
@pytest.mark.parametrize("recycling", [True, False])
def test_layers_read_k_tokens_on_average(layers, N, recycling):
    for K in (N // 4, N // 2, 3 * N // 4, N - 1, N):
        cuts = Pruner("layer_average", recycling=recycling).cuts(N, K, layers)
        assert [cut.layer for cut in cuts] == [3, 7, 16]
        counts = [N, *(cut.keep for cut in cuts), 1]
        assert counts == sorted(counts, reverse=True)
        assert abs(sum(tokens_by_layer(cuts, N, layers)) / layers - K) <= 0.5


def test_the_published_list_has_the_average_it_has_in_32_layers():
    """64 in their count, which takes layers by what they give; by what they read it is 82."""
    assert sum([3 * 576, 4 * 66, 9 * 30, 16 * 17]) / 32 == pytest.approx(79.2, abs=0.1)
    assert layer_average_counts(576, 79, 32, recycling=False) == pytest.approx(PUBLISHED[64], abs=1)
    assert layer_average_counts(576, 82, 32) == pytest.approx([66 + 16, 30 + 2, 17 + 1], abs=1)


def test_an_average_that_three_full_layers_exceed_is_refused():
    with pytest.raises(ParamsError, match="got 100"):
        layer_average_counts(3249, 100, 28)
    with pytest.raises(ParamsError, match="17 layers"):
        layer_average_counts(3249, 812, 16)


def test_a_merged_token_stands_at_its_centre():
    view = make_view(1)
    attention = torch.zeros(1, 2, 5, 48)
    attention[..., :30] = 1.0
    heap = torch.arange(30, 36)  # the six best of the 18 dropped: t = int(.3 * 18) + 1, one cluster
    kept = Pruner().select(attending(view, attention), 31)
    assert kept.indices.tolist() == [list(range(30))]
    torch.testing.assert_close(kept.extra_tokens[0, 0], view.tokens[0, heap].mean(dim=0), atol=1e-5, rtol=0)
    centre = heap[cluster_and_merge(view.tokens[0, heap], 1).centers]
    assert torch.equal(kept.extra_positions[:, 0], view.positions[:, 0, centre])


def test_merged_tokens_have_the_precision_of_the_others():
    view = make_view()
    half = replace(view, tokens=view.tokens.bfloat16())
    assert Pruner().select(half, 12).extra_tokens.dtype == torch.bfloat16
