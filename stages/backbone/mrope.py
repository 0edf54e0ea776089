"""M-RoPE position ids of Qwen2.5-VL as pure arithmetic.

Rules: research/pruning.md 1.6; checked on tests/cases/qwen_mrope_*.
"""

import torch
from jaxtyping import Int
from torch import Tensor


def image_positions(grid: tuple[int, int], B: int) -> Int[Tensor, "3 B N"]:
    """Ids (t, h, w) of an image's N = h * w merged tokens in reading order, counted from 0: t is constant."""
    h, w = grid
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    ids = torch.stack([torch.zeros(h * w, dtype=torch.int64), rows.flatten(), columns.flatten()])
    return ids[:, None].expand(3, B, -1)


def prompt_positions(before: int, grid: tuple[int, int], after: int) -> Int[Tensor, "3 1 L"]:
    """Ids of a prompt with `before` text tokens, one image of `grid` merged tokens and `after` text tokens.

    Text counts on all three axes alike; what follows an image starts at its start + max(h, w).
    """
    head = torch.arange(before).expand(3, 1, -1)
    image = image_positions(grid, 1) + before
    tail = (torch.arange(after) + before + max(grid)).expand(3, 1, -1)
    return torch.cat([head, image, tail], dim=2)
