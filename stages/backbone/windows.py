"""Attention windows of Qwen2.5-VL's vision tower: where they lie, and all of one length in one call.

The tower of transformers calls the attention once per window (6,304 times at 1596 x 1596). Windows of equal length are
independent rows of a batch, so three calls a block do (196 of 64 patches, 28 of 16, one of 4): 88 in a forward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

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
