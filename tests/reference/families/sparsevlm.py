"""SparseVLM: raters, ranking, the count of v1.0, clusters, and the whole forward with identity layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.mrope import image_positions
from stages.backbone.tokens import gather_tokens, top_k_ascending
from stages.pruning import sparsevlm
from stages.pruning.base import TokenView


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    kinds = {
        "inputs_embeds": check_forward,
        "relevance": check_raters,
        "centers": check_clusters,
        "attn_text_to_vis": check_ranking,
    }
    found = [kind for name, kind in kinds.items() if name in case]
    assert len(found) == 1, f"one kind of case of SparseVLM, which has one of {', '.join(kinds)}"
    found[0](case, meta)


def check_raters(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    visual, text = torch.from_numpy(case["vis"])[None], torch.from_numpy(case["text"])[None]
    np.testing.assert_allclose(sparsevlm.text_relevance(visual, text)[0], case["relevance"], rtol=1e-5, atol=1e-7)
    assert sparsevlm.text_raters(visual, text)[0].nonzero()[:, 0].tolist() == case["raters"].tolist()


def check_clusters(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    found = sparsevlm.cluster_and_merge(torch.from_numpy(case["tokens"]), meta["cluster_num"])
    assert found.centers.tolist() == case["centers"].tolist()
    assert found.assignment.tolist() == case["assignment"].tolist()
    for name in ("density", "score", "merged"):
        np.testing.assert_allclose(getattr(found, name), case[name], rtol=1e-4, atol=1e-5, err_msg=name)


def check_ranking(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    """Of a fixed count from the published lists, or of the case's own (v1.0 took it from the rank)."""
    attention = torch.from_numpy(case["attn_text_to_vis"])
    _, R, N = attention.shape
    scores = sparsevlm.rater_scores(attention[None], torch.ones(1, R, dtype=torch.bool))
    np.testing.assert_allclose(scores[0], case["score"], rtol=1e-5, atol=1e-8)
    if meta.get("retain") in sparsevlm.PUBLISHED:
        budgets = sparsevlm.PUBLISHED[meta["retain"]]
        assert budgets[sparsevlm.LAYERS.index(meta["layer"])] == meta["budget"]
    assert top_k_ascending(scores, meta["num_keep"])[0].tolist() == sorted(case["keep"].tolist())


def check_forward(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
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
        tokens = pruned(pruner, tokens, inputs, text, case[f"attn_l{layer}"], K)
        assert tokens.shape[1] == K == case[f"vis_out_l{layer}"]
        np.testing.assert_allclose(tokens[0], case[f"hidden_after_l{layer}"], rtol=1e-4, atol=1e-5)
        # They number the sequence anew, so that its length is all that is ours to tell
        assert case[f"pos_after_l{layer}"].tolist() == list(range(meta["pre"] + K + meta["post_text"]))
        read_by[layer:] = [K] * len(read_by[layer:])
    assert read_by == case["num_token_per_layer"].tolist()


def pruned(
    pruner: sparsevlm.Pruner, tokens: torch.Tensor, inputs: torch.Tensor, text: torch.Tensor, rows: NDArray, K: int
) -> torch.Tensor:
    """Kept and merged tokens; `rows` are the raters' attention, and what other text attends to must not matter."""
    N, raters = tokens.shape[1], sparsevlm.text_raters(inputs, text)[0]
    attention = torch.rand(1, len(rows), len(raters), N, generator=torch.Generator().manual_seed(0))
    attention[:, :, raters] = torch.from_numpy(rows)
    view = TokenView(
        tokens, ((1, N),), image_positions((1, N), 1), ("case",), "encoder",
        text=text, inputs=inputs, attention=lambda n: attention,
    )  # fmt: skip
    kept = pruner.select(view, K)
    plain = gather_tokens(tokens, kept.indices)
    return plain if kept.extra_tokens is None else torch.cat([plain, kept.extra_tokens], dim=1)
