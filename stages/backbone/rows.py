"""Attention of a few query rows beside a fused kernel: what FastV and the text-attention methods look at.

The kernel never shows its weights, and a model that is told to (eager attention) pays for all L x L of them. A method
that looks at the last prompt token needs one row: L products a head.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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
    """What the last n of L positions may see: themselves and what stands before them, without padding."""
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
    cos, sin = (part[:, None] for part in angles)
    query = _heads(attention.q_proj, layer.input_layernorm(hidden[:, -n:]), attention.head_dim)
    if keys is None:
        keys = rotate(_heads(attention.k_proj, layer.input_layernorm(hidden), attention.head_dim), cos, sin)
    query = rotate(query, cos[:, :, -n:], sin[:, :, -n:])
    return row_attention(query, keys, causal_rows(valid, n), attention.scaling)


def _heads(
    projection: Callable[[Tensor], Tensor], hidden: Float[Tensor, "B n D"], d: int
) -> Float[Tensor, "B heads n d"]:
    return projection(hidden).unflatten(-1, (-1, d)).transpose(1, 2)
