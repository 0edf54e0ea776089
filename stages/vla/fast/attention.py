"""Grouped-query attention without a dense mask: a prompt that is read, and one new token over a static cache.

A mask given to SDPA costs it the flash kernel, and transformers the grouped-query path. The prompt needs none, the new
token one row for all layers and rows: which places of the cache are filled so far. The ways of `ONE_ROW` give the same
numbers; which is fastest is for `make bench-gpu` to say.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def causal(
    query: Float[Tensor, "B heads L d"],
    keys: Float[Tensor, "B kv_heads S d"],
    values: Float[Tensor, "B kv_heads S d"],
    scaling: float,
) -> Float[Tensor, "B heads L d"]:
    """Attention of the last L of S positions to themselves and what stands before them.

    `is_causal` of SDPA aligns a rectangle at its upper left. So the square is completed by zero queries ahead, which
    is cheap while S - L, the kept prefix, is short.
    """
    ahead = keys.shape[2] - query.shape[2]
    if ahead:
        query = F.pad(query, (0, 0, ahead, 0))
    mixed = F.scaled_dot_product_attention(
        query, keys, values, is_causal=True, scale=scaling, enable_gqa=_grouped(query, keys)
    )
    return mixed[:, :, ahead:]


def all_to_all(
    query: Float[Tensor, "B heads L d"],
    keys: Float[Tensor, "B kv_heads S d"],
    values: Float[Tensor, "B kv_heads S d"],
    scaling: float,
) -> Float[Tensor, "B heads L d"]:
    """Attention of positions that see all S, as the last one of a prompt does."""
    return F.scaled_dot_product_attention(query, keys, values, scale=scaling, enable_gqa=_grouped(query, keys))


def _grouped(query: Tensor, keys: Tensor) -> bool:
    return query.shape[1] != keys.shape[1]


class Filled(NamedTuple):
    """How far a static cache is filled, in the forms that kernels ask for."""

    seen: Bool[Tensor, " S"]
    lengths: Int[Tensor, " rows"]  # int32, of the B * kv_heads sequences of keys
    bounds: Int[Tensor, " bounds"]  # int32, where they begin, and the end

    @classmethod
    def up_to(cls, place: Int[Tensor, "1"], sequences: int, places: int) -> "Filled":
        """All places of `places` up to and with `place`, which stays on the device."""
        at = torch.arange(places, device=place.device)
        lengths = (place + 1).to(torch.int32).expand(sequences).contiguous()
        return cls(at <= place, lengths, torch.arange(sequences + 1, device=place.device, dtype=torch.int32) * places)


OneRow = Callable[[Tensor, Tensor, Tensor, float, Filled], Tensor]


def products(
    query: Float[Tensor, "B heads 1 d"],
    keys: Float[Tensor, "B kv_heads S d"],
    values: Float[Tensor, "B kv_heads S d"],
    scaling: float,
    filled: Filled,
) -> Float[Tensor, "B heads 1 d"]:
    """Two batched products with a softmax in fp32 between; query heads that share keys are the rows of one product."""
    rows = _shared_rows(query, keys)
    logits = (rows @ keys.transpose(2, 3)).float() * scaling
    weights = logits.masked_fill(~filled.seen, -torch.inf).softmax(dim=-1)
    return (weights.to(values.dtype) @ values).reshape(query.shape)


def folded(
    query: Float[Tensor, "B heads 1 d"],
    keys: Float[Tensor, "B kv_heads S d"],
    values: Float[Tensor, "B kv_heads S d"],
    scaling: float,
    filled: Filled,
) -> Float[Tensor, "B heads 1 d"]:
    """SDPA with one row of mask; query heads that share keys stand where it expects query positions."""
    rows = _shared_rows(query, keys)
    seen = filled.seen.expand(rows.shape[0], 1, rows.shape[2], -1)
    return F.scaled_dot_product_attention(rows, keys, values, attn_mask=seen, scale=scaling).reshape(query.shape)


def flash(
    query: Float[Tensor, "B heads 1 d"],
    keys: Float[Tensor, "B kv_heads S d"],
    values: Float[Tensor, "B kv_heads S d"],
    scaling: float,
    filled: Filled,
) -> Float[Tensor, "B heads 1 d"]:
    """The flash kernel on packed sequences (CUDA, half precision): it is told the lengths and splits long ones.

    Every head of keys is a sequence of its own. Needs keys that fill their memory: all S places of the cache.
    """
    B, kv_heads, S, d = keys.shape
    rows = _shared_rows(query, keys).flatten(0, 1)  # sequences group d
    packed = (part.reshape(B * kv_heads * S, 1, d) for part in (keys, values))
    ones = torch.arange(B * kv_heads + 1, device=query.device, dtype=torch.int32)
    mixed = torch.ops.aten._flash_attention_forward(
        rows, *packed, ones, filled.bounds, 1, S, 0.0, False, False, scale=scaling, seqused_k=filled.lengths
    )[0]
    return mixed.reshape(query.shape)


ONE_ROW: dict[str, OneRow] = {"products": products, "folded": folded, "flash": flash}


def _shared_rows(query: Float[Tensor, "B heads 1 d"], keys: Tensor) -> Float[Tensor, "B kv_heads group d"]:
    """Query heads by the head of keys that they read: i reads i // (heads / kv_heads)."""
    return query.reshape(query.shape[0], keys.shape[1], -1, query.shape[3])
