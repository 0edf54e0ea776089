"""One check for each family of pruning cases: our methods choose what the published code chose."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.tokens import gather_tokens, image_positions, keep_count, top_k_ascending
from stages.core.errors import ParamsError
from stages.pruning import fastv, sparsevlm, tfps
from stages.pruning.base import Cut, TokenView
from stages.pruning.cdpruner import greedy_map, kernel, relevance
from stages.pruning.divprune import cosine_distance, greedy_order
from stages.pruning.visionzip import contextual_targets, dominant, merge, others
from stages.pruning.vispruner import choose
from stages.vla.cutting import Group, Sequences, shortened

Case = Mapping[str, NDArray]


def view_of(tokens: torch.Tensor, **known: Any) -> TokenView:
    """One image in a single row of tokens."""
    grid = (1, tokens.shape[1])
    return TokenView(tokens, (grid,), image_positions(grid, 1), ("case",), "encoder", **known)


def check_divprune(case: Case, meta: dict[str, Any]) -> None:
    """DivPrune: the greedy order is exact in fp32; where it repeats an index on duplicates, ours must not."""
    distance = cosine_distance(torch.from_numpy(case["features"]))
    order = greedy_order(distance, meta["num_keep"]).numpy()
    if "distance" in case:
        np.testing.assert_allclose(distance.numpy()[: len(case["distance"])], case["distance"], atol=2e-6)
    if len(set(case["order"].tolist())) < len(case["order"]):
        _duplicates(case, order)
    else:
        assert order.tolist() == case["order"].tolist()
        assert sorted(order.tolist()) == case["keep_sorted"].tolist()


def _duplicates(case: Case, order: NDArray) -> None:
    """Unique indices; as many first picks as there are distinct vectors are one of each, in the official order."""
    distinct = len(np.unique(case["features"], axis=0))
    official = case["order"]
    assert len(set(order.tolist())) == len(order) == len(official)
    first = min(distinct, len(order))
    np.testing.assert_array_equal(case["features"][order[:first]], case["features"][official[:first]])
    # The official code repeats an index from there on: a case that does not is damaged
    assert set(official[first:].tolist()) <= set(official[:first].tolist())
    if "keep_sorted" in case:
        assert sorted(set(official.tolist())) == sorted(set(case["keep_sorted"].tolist()))


def check_prune2drive_tfps(case: Case, meta: dict[str, Any]) -> None:
    """T-FPS of Prune2Drive: the greedy order within one camera."""
    features, K = torch.from_numpy(case["features"]), meta["k"]
    assert greedy_order(cosine_distance(features), K).tolist() == case["order"].tolist()
    assert tfps.Pruner().select(view_of(features[None]), K).indices[0].tolist() == sorted(case["order"].tolist())


def check_vispruner(case: Case, meta: dict[str, Any]) -> None:
    """The important tokens in rank order, the diverse ones in loop order, and settings that the code refuses."""
    if "table" in case:
        _table(case["table"])
        return
    attention = torch.from_numpy(case["attention"])
    importance = attention if attention.ndim == 2 else attention.mean(dim=1)
    ratio = meta["important_ratio"] if "important_ratio" in meta else meta["important_ratio_nominal"]
    assert len(importance) == len(case["important"]) == len(case["diverse"])
    for i in range(len(importance)):
        official = case["important"][i].tolist(), case["diverse"][i].tolist()
        for name, found in {"mask": lambda row: row.nonzero()[0], "keep_sorted": lambda row: row}.items():
            if name in case:
                assert found(case[name][i]).tolist() == sorted([*official[0], *official[1]])
        rows = importance[i], torch.from_numpy(case["features"][i])
        important, diverse = (part.tolist() for part in choose(*rows, meta["visual_token_num"], ratio))
        assert important == official[0]
        if meta.get("robust_to_1e6_noise", True):
            assert diverse == official[1]
        else:  # rounding decides
            assert len({*diverse}) == len(official[1])
            assert len({*diverse} & {*official[1]}) >= 0.7 * len(official[1])
            assert not {*important} & {*diverse}


def _table(table: NDArray) -> None:
    """Rows of N, K, ratio, does the official code run, and how many tokens it then keeps; ours keeps K each time."""
    random = torch.Generator().manual_seed(0)
    for row in table:
        N, K = int(row[0]), int(row[1])
        importance, features = torch.rand(N, generator=random), torch.randn(N, 16, generator=random)
        kept = torch.cat(choose(importance, features, K, float(row[2]))).tolist()
        assert len(kept) == len(set(kept)) == K, f"{N} tokens, {K} kept, ratio {row[2]}"
        assert row[4] == (K if row[3] else -1), f"{N} tokens, {K} kept, ratio {row[2]}"


def check_visionzip(case: Case, meta: dict[str, Any]) -> None:
    """Dominant tokens, targets, and the merged tokens. Row 0 of a case is the CLS token, which is also kept."""
    attention = torch.from_numpy(case["cls_attention"])
    hidden, metric = (torch.from_numpy(case[name][:, 1:]) for name in ("hidden", "metric"))
    N, count = attention.shape[2], meta["contextual"]
    kept = dominant(attention.sum(dim=1), meta["dominant"])
    assert (kept + 1).tolist() == case["dominant_topk"].tolist()
    np.testing.assert_array_equal(np.pad((kept + 1).numpy(), ((0, 0), (1, 0))), case["all_indices"])
    left = others(kept, N)
    places = contextual_targets(torch.arange(left.shape[1])[None], count)
    assert places[0].tolist() == case["target_indices"].tolist()
    targets = contextual_targets(left, count)
    rest = others(torch.cat([kept, targets], dim=1), N)
    merged = torch.stack([merge(metric[i], hidden[i], targets[i], rest[i]) for i in range(len(kept))]).numpy()
    np.testing.assert_allclose(merged, case["contextual_tokens"], rtol=1e-5, atol=1e-5)
    plain = np.stack(
        [tokens[indices] for tokens, indices in zip(hidden.numpy(), kept.sort().values.numpy(), strict=True)]
    )
    np.testing.assert_allclose(
        case["tokens_out"], np.concatenate([case["hidden"][:, :1], plain, merged], axis=1), rtol=1e-5, atol=1e-5
    )


def check_cdpruner(case: Case, meta: dict[str, Any]) -> None:
    """CDPruner: relevance, scaled over the whole batch as the published code does, and the greedy order."""
    image, text = torch.from_numpy(case["image_embeds"]), torch.from_numpy(case["text_embeds"])
    weights = relevance(image, text)
    np.testing.assert_allclose(weights, case["relevance"], rtol=1e-5, atol=2e-6)
    assert len(case["order"]) == len(case["features"]) == len(weights)
    for i, official in enumerate(case["order"].tolist()):
        order = greedy_map(kernel(torch.from_numpy(case["features"][i]), weights[i]), len(official))
        assert order.tolist() == official
        if "mask" in case:
            assert sorted(order.tolist()) == case["mask"][i].nonzero()[0].tolist()


def check_fastv(case: Case, meta: dict[str, Any]) -> None:
    """FastV: scores, ranks, and what is left of the prompt with its original position ids."""
    start, N, K = meta["image_start"], meta["image_len"], meta["num_keep"]
    attention = torch.from_numpy(case["attn_last_query"])[None, :, None]
    L = attention.shape[3]
    now = Sequences(
        torch.arange(L, dtype=torch.float32)[None, :, None],
        torch.arange(L).expand(3, 1, L),
        torch.ones(1, L, dtype=torch.bool),
    )
    span = slice(start, start + N)
    view = view_of(now.hidden[:, span], attention=lambda n: attention[..., span])
    pruner = fastv.Pruner(meta["fastv_k"])
    assert pruner.cuts(N, K, 32) == (Cut(meta["fastv_k"], K),)
    scores = pruner.score(view)
    np.testing.assert_allclose(scores[0], case["score"], rtol=1e-5, atol=1e-8)
    kept = pruner.select(view, K)
    assert kept.indices[0].tolist() == case["keep_visual_sorted"].tolist()
    assert len(case["keep_visual_sorted"]) == K
    ranks = [pruner.select(view, k).indices[0].tolist() for k in range(K + 1)]  # one more token with each k
    assert [({*ranks[k + 1]} - {*ranks[k]}).pop() for k in range(K)] == case["rank_order"].tolist()
    visual = torch.arange(start, start + N)[None]
    _, after = shortened(Group(slice(0, 1), view, visual, L - start - N, visual - start), now, kept)
    assert after.hidden[0, :, 0].tolist() == case["keep_sequence"].tolist()
    assert after.positions[0, 0].tolist() == case["position_ids"].tolist()


def check_sparsevlm(case: Case, meta: dict[str, Any]) -> None:
    """SparseVLM: raters, ranking, the count of v1.0, clusters, and the whole forward with identity layers."""
    kinds = {
        "inputs_embeds": _forward,
        "relevance": _raters,
        "centers": _clusters,
        "attn_text_to_vis": _ranking,
    }
    found = [kind for name, kind in kinds.items() if name in case]
    assert len(found) == 1, f"one kind of case of SparseVLM, which has one of {', '.join(kinds)}"
    found[0](case, meta)


def _raters(case: Case, meta: dict[str, Any]) -> None:
    visual, text = torch.from_numpy(case["vis"])[None], torch.from_numpy(case["text"])[None]
    np.testing.assert_allclose(sparsevlm.text_relevance(visual, text)[0], case["relevance"], rtol=1e-5, atol=1e-7)
    assert sparsevlm.text_raters(visual, text)[0].nonzero()[:, 0].tolist() == case["raters"].tolist()


def _clusters(case: Case, meta: dict[str, Any]) -> None:
    found = sparsevlm.cluster_and_merge(torch.from_numpy(case["tokens"]), meta["cluster_num"])
    assert found.centers.tolist() == case["centers"].tolist()
    assert found.assignment.tolist() == case["assignment"].tolist()
    for name in ("density", "score", "merged"):
        np.testing.assert_allclose(getattr(found, name), case[name], rtol=1e-4, atol=1e-5, err_msg=name)


def _ranking(case: Case, meta: dict[str, Any]) -> None:
    """Of a fixed count from the published lists, or of the case's own (v1.0 took it from the rank)."""
    attention = torch.from_numpy(case["attn_text_to_vis"])
    _, R, N = attention.shape
    scores = sparsevlm.rater_scores(attention[None], torch.ones(1, R, dtype=torch.bool))
    np.testing.assert_allclose(scores[0], case["score"], rtol=1e-5, atol=1e-8)
    if meta.get("retain") in sparsevlm.PUBLISHED:
        budgets = sparsevlm.PUBLISHED[meta["retain"]]
        assert budgets[sparsevlm.LAYERS.index(meta["layer"])] == meta["budget"]
    assert top_k_ascending(scores, meta["num_keep"])[0].tolist() == sorted(case["keep"].tolist())


def _forward(case: Case, meta: dict[str, Any]) -> None:
    """Visual tokens after each pruned layer, through the pruner. (We keep position ids; v1.5 numbers them anew.)"""
    embeddings, N = torch.from_numpy(case["inputs_embeds"])[None], meta["N"]
    inputs, text = embeddings[:, meta["pre"] : meta["pre"] + N], embeddings[:, meta["pre"] + N :]
    assert text.shape[1] == meta["post_text"]
    raters = sparsevlm.text_raters(inputs, text)
    assert raters[0].nonzero()[:, 0].tolist() == case["raters"].tolist()
    pruner, tokens, read_by = sparsevlm.Pruner(), inputs, [N] * len(case["num_token_per_layer"])
    for layer, budget in zip(meta["prune_layers"], sparsevlm.PUBLISHED[meta["retain"]], strict=True):
        present = tokens.shape[1]
        assert present == case[f"vis_in_l{layer}"]
        kept = min(budget, present - 1)
        K = kept + sparsevlm.recycle(present - kept)[1]
        tokens = _pruned(pruner, tokens, inputs, text, case[f"attn_l{layer}"], K)
        assert tokens.shape[1] == K == case[f"vis_out_l{layer}"]
        np.testing.assert_allclose(tokens[0], case[f"hidden_after_l{layer}"], rtol=1e-4, atol=1e-5)
        # They number the sequence anew, so that its length is all that is ours to tell
        assert case[f"pos_after_l{layer}"].tolist() == list(range(meta["pre"] + K + meta["post_text"]))
        read_by[layer:] = [K] * len(read_by[layer:])
    assert read_by == case["num_token_per_layer"].tolist()


def _pruned(
    pruner: sparsevlm.Pruner, tokens: torch.Tensor, inputs: torch.Tensor, text: torch.Tensor, rows: NDArray, K: int
) -> torch.Tensor:
    """Kept and merged tokens; `rows` are the raters' attention, and what other text attends to must not matter."""
    N, raters = tokens.shape[1], sparsevlm.text_raters(inputs, text)[0]
    attention = torch.rand(1, len(rows), len(raters), N, generator=torch.Generator().manual_seed(0))
    attention[:, :, raters] = torch.from_numpy(rows)
    kept = pruner.select(view_of(tokens, text=text, inputs=inputs, attention=lambda n: attention), K)
    plain = gather_tokens(tokens, kept.indices)
    return plain if kept.extra_tokens is None else torch.cat([plain, kept.extra_tokens], dim=1)


def check_keep_count_rounding(case: Case, meta: dict[str, Any]) -> None:
    """How many tokens stay: the paper's floor, guarded against float error; none at all is refused."""
    assert len(case["table"])
    for N, ratio, _, _, wanted in case["table"].tolist():
        try:
            kept = keep_count(int(N), 100 * ratio)
        except ParamsError:
            kept = 0
        assert kept == wanted, f"{ratio} of {N}"
