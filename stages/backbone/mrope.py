"""M-RoPE position ids of Qwen2.5-VL as pure arithmetic.

Rules: research/pruning.md 1.6; checked on tests/cases/qwen_mrope_*.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stages.core.errors import DataError


def image_positions(grid: tuple[int, int], B: int, device: torch.device | None = None) -> Int[Tensor, "3 B N"]:
    """Ids (t, h, w) of an image's N = h * w merged tokens in reading order, counted from 0: t is constant."""
    h, w = grid
    rows, columns = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
    ids = torch.stack([torch.zeros_like(rows).flatten(), rows.flatten(), columns.flatten()])
    return ids[:, None].expand(3, B, -1)


def positions_around(texts: Sequence[int], grids: Sequence[tuple[int, int]]) -> Int[Tensor, "3 1 L"]:
    """Ids of a prompt of text and images in turn: `texts` counts the text tokens, one number more than images.

    Text counts on all three axes alike; what follows an image starts at its start + max(h, w).
    """
    parts, start = [torch.arange(texts[0]).expand(3, 1, -1)], texts[0]
    for grid, text in zip(grids, texts[1:], strict=True):
        parts.append(image_positions(grid, 1) + start)
        start += max(grid)
        parts.append((torch.arange(text) + start).expand(3, 1, -1))
        start += text
    return torch.cat(parts, dim=2)


def text_lengths(visual: Bool[Tensor, " L"], grids: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Text tokens before, between and after the images of a prompt whose visual tokens are True in `visual`.

    Raises DataError when the visual tokens are not as many as the grids say, or an image's are not in one piece.
    """
    places = visual.nonzero().flatten().tolist()
    sizes = [h * w for h, w in grids]
    if len(places) != sum(sizes):
        shapes = ", ".join(f"{h} x {w}" for h, w in grids) or "no"
        raise DataError(
            expected=f"{sum(sizes)} image tokens in the prompt, for images of {shapes} tokens",
            got=f"{len(places)}",
            fix="give the prompt and the images of one and the same processor call",
        )
    lengths, end, first = [], 0, 0
    for size in sizes:
        start = places[first]
        if places[first + size - 1] != start + size - 1:
            raise DataError(
                expected=f"the {size} tokens of an image side by side in the prompt",
                got="other tokens between them",
                fix="leave the image tokens as the processor wrote them",
            )
        lengths.append(start - end)
        end, first = start + size, first + size
    return (*lengths, len(visual) - end)
