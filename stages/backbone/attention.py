"""Attention of Qwen2.5-VL beside its fused kernels: a few rows of a decoder layer, what the vision tower knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def rotate(vectors: Float[Tensor, "*head d"], cos: Float[Tensor, "*#head d"], sin: Float[Tensor, "*#head d"]) -> Tensor:
    """Rotary embedding with the angles' cosines and sines, halves paired (RoFormer, as Qwen2.5-VL lays it out)."""
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cos + torch.cat([-second, first], dim=-1) * sin


def row_attention(
    query: Float[Tensor, "B heads n d"],
    key: Float[Tensor, "B kv_heads L d"],
    allowed: Bool[Tensor, "B n L"],
    scaling: float,
) -> Float[Tensor, "B heads n L"]:
    """Softmax attention of n rotated query rows over L rotated keys, in fp32; True in `allowed` is seen.

    Heads share keys in groups, as in grouped-query attention: query head i reads key head i // (heads / kv_heads).
    """
    B, heads, n, d = query.shape
    shared = heads // key.shape[1]
    grouped = query.float().unflatten(1, (-1, shared)).flatten(2, 3)  # B kv_heads shared*n d
    logits = (grouped @ key.float().transpose(2, 3)).view(B, heads, n, -1) * scaling
    return logits.masked_fill(~allowed[:, None], -torch.inf).softmax(dim=-1)


def causal_rows(valid: Bool[Tensor, "B L"], n: int) -> Bool[Tensor, "B n L"]:
    """Causal mask of the last n of L positions: themselves and what stands before them, without padding."""
    L = valid.shape[1]
    place = torch.arange(L, device=valid.device)
    return valid[:, None] & (place <= place[L - n :, None])


def layer_rows(
    layer: Any,
    hidden: Float[Tensor, "B L D"],
    angles: tuple[Float[Tensor, "B L d"], Float[Tensor, "B L d"]],
    valid: Bool[Tensor, "B L"],
    n: int,
    keys: Float[Tensor, "B kv_heads L d"] | None = None,
) -> Float[Tensor, "B heads n L"]:
    """Causal attention of the last n positions in a decoder layer of transformers that reads `hidden`.

    `angles` are the cosines and sines that the layer was given; `keys` its rotated keys, where a cache holds them.
    """
    attention = layer.self_attn

    def heads(projection: nn.Module, rows: Float[Tensor, "B n D"]) -> Float[Tensor, "B heads n d"]:
        return projection(layer.input_layernorm(rows)).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    cos, sin = (part[:, None] for part in angles)
    query = rotate(heads(attention.q_proj, hidden[:, -n:]), cos[:, :, -n:], sin[:, :, -n:])
    if keys is None:
        keys = rotate(heads(attention.k_proj, hidden), cos, sin)
    return row_attention(query, keys, causal_rows(valid, n), attention.scaling)


@dataclass(frozen=True)
class VisionFacts:
    """Attention and keys of each merged token in the last full-attention block of the vision tower.

    Qwen2.5-VL has no CLS token. The authors of VisPruner (issue 1 of their repository) take the attention that a token
    receives from all others, merged 2 x 2 as the tokens are; research/pruning.md 1.3.
    """

    importance: Float[Tensor, "B N"]  # attention received: mean over heads, sum over queries, mean of its four patches
    features: Float[Tensor, "B N C"]  # its keys before rotation: mean over heads, mean of its four patches


def joined(facts: Sequence[VisionFacts], dim: int) -> VisionFacts:
    """Records as one: of equal-sized images as a batch (0), or of the images of one prompt in a row (1)."""
    return VisionFacts(torch.cat([f.importance for f in facts], dim), torch.cat([f.features for f in facts], dim))
