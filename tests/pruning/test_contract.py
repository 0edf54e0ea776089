"""One behaviour for every pruner in the folder: a new one is tested by existing. Invariants: research/pruning.md 2."""

from dataclasses import replace

import pytest
import torch
from every_pruner import METHODS, RULERS, TRAINED, load, make_view, permuted, ranking, row
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from token_views import check_kept, mapped

from stages.backbone.tokens import keep_count, top_k_ascending
from stages.core.errors import DataError, ParamsError
from stages.pruning import base
from stages.pruning.base import Kept, choose
from stages.pruning.divprune import cosine_distance

CHOOSING = [name for name in METHODS if name != "none"]
grids = st.tuples(st.integers(1, 7), st.integers(1, 7)).filter(lambda grid: grid[0] * grid[1] > 1)
seeds = st.integers(0, 10_000)
counts = st.floats(0, 1)  # where between one token and all of them
few = settings(max_examples=4, deadline=None)


def K_of(share: float, N: int) -> int:
    return 1 + round(share * (N - 1))


@pytest.mark.parametrize("name", METHODS)
@few
@given(grid=grids, seed=seeds, percent=st.integers(0, 99))
def test_the_papers_count_of_ascending_unique_tokens_stays(name: str, grid, seed: int, percent: int) -> None:
    view = make_view(2, (grid,), seed)
    N = view.tokens.shape[1]
    K = N if name == "none" else N * (100 - percent) // 100  # in integers, beside the floats of keep_count
    assume(K > 0)
    assert keep_count(N, 0 if name == "none" else percent) == K
    check_kept(load(name).select(view, K), view.tokens, K, name)


@pytest.mark.parametrize("name", CHOOSING)
@few
@given(grid=grids, seed=seeds, share=counts)
def test_a_batch_equals_its_singles_and_one_of_several_counts(name: str, grid, seed: int, share: float) -> None:
    view = make_view(2, (grid,), seed)
    N = view.tokens.shape[1]
    K = K_of(share, N)
    together, (everything, again) = load(name).select(view, K), load(name).select_each(view, [N, K])
    assert everything.indices.tolist() == [list(range(N))] * 2
    assert everything.extra_tokens is None
    single = [load(name).select(row(view, i), K) for i in range(2)]
    assert torch.equal(together.indices, again.indices)
    assert torch.equal(together.indices, torch.cat([kept.indices for kept in single]))
    for i, kept in enumerate(single):
        if together.extra_tokens is not None:
            torch.testing.assert_close(kept.extra_tokens[0], together.extra_tokens[i])


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("K", [1, 7, 23, 24])
def test_the_view_is_left_as_it_was_and_merged_tokens_have_its_precision(name: str, K: int) -> None:
    parts: list[torch.Tensor] = []
    view = mapped(make_view(2), lambda part: parts.append(part) or part)
    before = [part.clone() for part in parts]
    kept = check_kept(load(name).select(view, K), view.tokens, K, name)
    assert all(torch.equal(old, new) for old, new in zip(before, parts, strict=True))
    assert kept.extra_tokens is None or kept.extra_tokens.dtype == view.tokens.dtype


@pytest.mark.parametrize("name", [m for m in CHOOSING if m not in {*TRAINED, "oracle", "inverse"}])
def test_no_value_is_asked_of_the_device(name: str) -> None:
    """Tensors on the meta device have no values: whoever asks for one, as waiting for a device does, fails."""
    view = make_view(2)
    on_meta = load(name).select(mapped(view, lambda part: part.to("meta")), 7)
    assert on_meta.indices.shape == load(name).select(view, 7).indices.shape


@pytest.mark.parametrize("name", [m for m in CHOOSING if m not in RULERS])
def test_a_method_under_test_does_not_need_to_know_which_image_it_is(name: str) -> None:
    view = make_view(2)
    blind = replace(view, sources=(), foreground=None)
    assert torch.equal(load(name).select(blind, 7).indices, load(name).select(view, 7).indices)


@pytest.mark.parametrize("name", [m for m in CHOOSING if ranking(m)])
@few
@given(grid=grids, seed=seeds, shares=st.tuples(counts, counts), shift=st.integers(-8, 8))
def test_ranking_methods_nest_and_a_constant_added_changes_nothing(name: str, grid, seed: int, shares, shift) -> None:
    view, pruner = make_view(2, (grid,), seed), load(name)
    few_K, many_K = sorted(K_of(share, view.tokens.shape[1]) for share in shares)
    few_kept, many_kept = (pruner.select(view, K).indices for K in (few_K, many_K))
    assert all(set(a.tolist()) <= set(b.tolist()) for a, b in zip(few_kept, many_kept, strict=True))
    scores = pruner.score(view).double()
    assert torch.equal(top_k_ascending(scores + shift, few_K), few_kept)


@pytest.mark.parametrize("name", ["divprune", "cdpruner", "tfps"])
@few
@given(grid=grids, seed=seeds, shares=st.tuples(counts, counts))
def test_greedy_methods_keep_prefixes_of_one_order(name: str, grid, seed: int, shares) -> None:
    view = make_view(1, (grid,), seed)
    few_K, many_K = sorted(K_of(share, view.tokens.shape[1]) for share in shares)
    few_kept, many_kept = (set(load(name).select(view, K).indices[0].tolist()) for K in (few_K, many_K))
    assert few_kept <= many_kept


@pytest.mark.parametrize("name", ["divprune", "tfps"])
@few
@given(seed=seeds, share=counts)
def test_methods_by_angle_do_not_mind_the_length_of_a_token(name: str, seed: int, share: float) -> None:
    view = make_view(1, ((4, 6),), seed)
    factors = 2.0 ** torch.randint(-3, 4, (1, 24, 1), generator=torch.Generator().manual_seed(seed))  # exact in floats
    scaled = replace(view, tokens=view.tokens * factors)
    K = K_of(share, 24)
    assert torch.equal(load(name).select(view, K).indices, load(name).select(scaled, K).indices)


@pytest.mark.parametrize("name", ["divprune", "tfps", "vispruner", "fastv", "text_attention", "cdpruner"])
@few
@given(seed=seeds, share=counts)
def test_methods_that_know_no_places_follow_a_permutation(name: str, seed: int, share: float) -> None:
    view = make_view(1, ((4, 6),), seed)
    # Two tokens that are each other's nearest, and farther so than any others, tie for the first pick: no margin
    nearest = cosine_distance(view.tokens[0]).topk(2, dim=1, largest=False).values[:, 1].sort().values
    assume(nearest[-1] - nearest[-2] > 1e-5)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    K = K_of(share, 24)
    moved = load(name).select(permuted(view, order), K).indices[0]
    assert sorted(order[moved].tolist()) == load(name).select(view, K).indices[0].tolist()


@pytest.mark.parametrize("name", CHOOSING)
@few
@given(sizes=st.lists(grids, min_size=2, max_size=3), seed=seeds, share=counts, per_image=st.booleans())
def test_several_images_share_a_pool_or_get_shares_that_add_up(name: str, sizes, seed: int, share, per_image) -> None:
    view = make_view(2, tuple(sizes), seed)
    N = view.tokens.shape[1]
    K = max(len(sizes), K_of(share, N))
    kept = choose(load(name), view, K, per_image=per_image)
    check_kept(kept, view.tokens, K, name)
    if per_image:
        places = torch.tensor([h * w for h, w in sizes]).cumsum(0)
        merged = K - kept.indices.shape[1]
        by_image = torch.bincount(torch.bucketize(kept.indices[0], places, right=True), minlength=len(sizes))
        wanted = [h * w * K / N for h, w in sizes]
        assert all(n <= w + 1 for n, w in zip(by_image.tolist(), wanted, strict=True))
        assert all(n + merged >= min(1, w - 1) for n, w in zip(by_image.tolist(), wanted, strict=True))


@pytest.mark.parametrize(
    ("name", "options", "near"), [("divprun", {}, "divprune"), ("random_keep", {"sed": 1}, "seed")]
)
def test_an_unknown_method_or_option_is_refused_with_the_nearest_name(name: str, options: dict, near: str) -> None:
    with pytest.raises(ParamsError, match=f"did you mean '{near}'"):
        base.load(name, options)


@pytest.mark.parametrize(
    ("name", "part"),
    [("fastv", "attention"), ("masked_text_attention", "attention"), ("sparsevlm", "attention")]
    + [("visionzip", "vision"), ("vispruner", "vision"), ("cdpruner", "text")],
)
def test_what_is_no_number_is_told_wherever_it_comes_from(name: str, part: str) -> None:
    view = make_view(2)
    nothing = mapped(view, lambda tensor: tensor * torch.nan if tensor.is_floating_point() else tensor)
    kept = load(name).select(replace(view, **{part: getattr(nothing, part)}), 7)
    with pytest.raises(DataError, match=f"finite scores from {name}"):
        check_kept(kept, view.tokens, 7, name)


@pytest.mark.parametrize("name", CHOOSING)
def test_nan_tokens_are_refused_and_crash_nothing(name: str) -> None:
    view = make_view(2)
    tokens = view.tokens.clone()
    tokens[0, 3] = torch.nan
    kept = load(name).select(replace(view, tokens=tokens), 7)
    with pytest.raises(DataError, match="NaN or infinity"):
        check_kept(kept, tokens, 7, name)


@pytest.mark.parametrize(
    ("indices", "fault"),
    [([[0, 1]], "kept"), ([[0, 2, 2]], "unique"), ([[2, 1, 0]], "unique"), ([[0, 1, 24]], "outside")],
)
def test_the_host_refuses_what_breaks_the_contract(indices: list[list[int]], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_kept(Kept(torch.tensor(indices)), torch.zeros(1, 24, 2), 3, "broken")
