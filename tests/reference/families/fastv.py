"""FastV: scores, ranks, and what is left of the prompt with its original position ids."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.mrope import image_positions
from stages.pruning.base import Cut, TokenView
from stages.pruning.fastv import Pruner
from stages.vla.cutting import Group, Sequences, shortened


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    start, N, K = meta["image_start"], meta["image_len"], meta["num_keep"]
    attention = torch.from_numpy(case["attn_last_query"])[None, :, None]
    L = attention.shape[3]
    now = Sequences(
        torch.arange(L, dtype=torch.float32)[None, :, None],
        torch.arange(L).expand(3, 1, L),
        torch.ones(1, L, dtype=torch.bool),
    )
    span = slice(start, start + N)
    view = TokenView(
        now.hidden[:, span], ((1, N),), image_positions((1, N), 1), ("case",), "encoder",
        attention=lambda n: attention[..., span],
    )  # fmt: skip
    pruner = Pruner(meta["fastv_k"])
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
