"""Attention of Qwen2.5-VL beside its fused kernels: windows of one length in one call, a few rows, column sums.

The tower of transformers calls the attention once per window (6,304 times at 1596 x 1596). Windows of equal length are
independent rows of a batch, so three calls a block do (196 of 64 patches, 28 of 16, one of 4): 88 in a forward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

BLOCK_ROWS = 256  # 256 rows x 12,996 columns x 16 heads in fp32 are 213 MB, held twice; all rows would be 10.8 GB
THW = tuple[int, int, int]  # frames, rows and columns of patches, as `grid_thw` gives them


def window_index(grids: Sequence[THW], window_tokens: int, merge: int) -> tuple[Int[Tensor, " M"], list[int]]:
    """Merged tokens of all images in window order, and the patches in each window; M merged tokens in all.

    `raster[index]` is in window order. A window is at most `window_tokens` merged tokens (of `merge` x `merge` patches)
    high and wide; those at the right and lower border may be smaller. Windows in reading order, tokens in them too.
    Rule: `get_window_index` of transformers 4.51.3, checked on tests/cases/qwen_window_*.
    """
    parts: list[Tensor] = []
    first = 0
    for frames, rows, columns in grids:
        h, w = rows // merge, columns // merge
        ids = first + torch.arange(frames * h * w).view(frames, h, w)
        first += frames * h * w
        for frame in ids:
            for band in frame.split(window_tokens, dim=0):
                parts += [window.flatten() for window in band.split(window_tokens, dim=1)]
    return torch.cat(parts), [len(part) * merge**2 for part in parts]


@dataclass(frozen=True)
class Group:
    """Sequences of one length among packed ones."""

    length: int
    index: Int[Tensor, " S"] | None  # where their rows stand, sequence by sequence; None when they are all there is

    def take(self, packed: Float[Tensor, "heads S d"]) -> Float[Tensor, "G heads length d"]:
        """The sequences as a batch."""
        rows = packed if self.index is None else packed.index_select(1, self.index)
        return rows.unflatten(1, (-1, self.length)).transpose(0, 1)


def groups_of(lengths: Sequence[int], device: torch.device) -> tuple[Group, ...]:
    """Packed sequences of `lengths` by length, the longest first."""
    if len(set(lengths)) == 1:
        return (Group(lengths[0], None),)
    starts = torch.tensor([0, *lengths]).cumsum(0)[:-1]
    sizes = torch.tensor(lengths)
    groups = []
    for length in sorted(set(lengths), reverse=True):
        index = (starts[sizes == length][:, None] + torch.arange(length)).flatten()
        groups.append(Group(length, index.to(device)))
    return tuple(groups)


Packing = dict[int, tuple[Group, ...]]  # by the number of packed sequences, which a block's `cu_seqlens` tells


@lru_cache(maxsize=32)
def packing(grids: tuple[THW, ...], window_tokens: int, merge: int, device: torch.device) -> Packing:
    """The groups of a tower's windows and of its whole frames, for images of `grids`."""
    frames = [rows * columns for count, rows, columns in grids for _ in range(count)]
    windows = window_index(grids, window_tokens, merge)[1]
    # As many windows as frames: each frame is one window
    return {len(windows): groups_of(windows, device), len(frames): groups_of(frames, device)}


def grouped_sdpa(
    module: Any,
    query: Float[Tensor, "1 heads S d"],
    key: Float[Tensor, "1 heads S d"],
    value: Float[Tensor, "1 heads S d"],
    attention_mask: Tensor | None = None,
    *,
    scaling: float,
    cu_seq_lens_q: Int[Tensor, " bounds"],
    fastdrive_packing: Packing | None = None,
    **unused: Any,
) -> tuple[Float[Tensor, "1 S heads d"], None]:
    """Attention of packed sequences to themselves, one call for each length; a function of transformers' kind.

    Reads nothing back from the device: how many sequences there are is the shape of `cu_seq_lens_q`.
    """
    if fastdrive_packing is None:  # another tower that shares the config of the one inside `grouped`
        groups = groups_of(cu_seq_lens_q.diff().tolist(), query.device)
    else:
        groups = fastdrive_packing[cu_seq_lens_q.shape[0] - 1]
    out = torch.empty_like(query[0].transpose(0, 1))  # S heads d
    for group in groups:
        q, k, v = (group.take(part[0]) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2).flatten(0, 1)
        if group.index is None:
            return mixed[None], None
        out.index_copy_(0, group.index, mixed)
    return out[None], None


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


@dataclass(frozen=True)
class VisionFacts:
    """Attention and keys of each merged token in the last full-attention block of the vision tower.

    Qwen2.5-VL has no CLS token. The authors of VisPruner (issue 1 of their repository) take the attention that a token
    receives from all others, merged 2 x 2 as the tokens are; research/pruning.md 1.3.
    """

    importance: Float[Tensor, "B N"]  # attention received: mean over heads, sum over queries, mean of its four patches
    features: Float[Tensor, "B N C"]  # its keys before rotation: mean over heads, mean of its four patches


def attention_received(
    query: Float[Tensor, "heads S d"], key: Float[Tensor, "heads S d"], scaling: float, block_rows: int = BLOCK_ROWS
) -> Float[Tensor, " S"]:
    """Column sums of the softmax attention over all queries, mean over heads, in fp32; `block_rows` rows at a time."""
    received = torch.zeros(key.shape[1], device=key.device)
    columns = key.float().transpose(1, 2)
    for rows in query.split(block_rows, dim=1):
        received += ((rows.float() @ columns) * scaling).softmax(dim=-1).sum(dim=1).mean(dim=0)
    return received


def of_units(patches: Float[Tensor, "S ..."], unit: int, index: Int[Tensor, " M"]) -> Float[Tensor, "M ..."]:
    """Means over the `unit` patches of each merged token, from window order (`index`) back to reading order."""
    means = patches.unflatten(0, (-1, unit)).mean(dim=1)
    return torch.empty_like(means).index_copy_(0, index, means)


def joined(facts: Sequence[VisionFacts], dim: int) -> VisionFacts:
    """Records as one: of equal-sized images as a batch (0), or of the images of one prompt in a row (1)."""
    return VisionFacts(torch.cat([f.importance for f in facts], dim), torch.cat([f.features for f in facts], dim))
