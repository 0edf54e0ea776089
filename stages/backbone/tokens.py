"""Pure token arithmetic. The letters, the same everywhere in this project:

B batch, N visual tokens after the 2x2 merger, K kept tokens, D width of a token, L prompt tokens (text and image),
H x W pixels, h x w token grid (N = h * w), T future steps. A prune ratio is a percentage *removed*, as in the paper.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stages.core.errors import DataError, ParamsError


def keep_count(N: int, percent: int | float) -> int:
    """K = floor(N (1 - p)), Eq. 9 of the paper, guarded against the float error of 1 - p.

    Raises ParamsError when `percent` is outside [0, 100) or nothing would be kept.
    """
    if not 0 <= percent < 100:
        raise ParamsError(
            expected="a prune ratio in percent, 0 <= p < 100", got=f"{percent}", fix="edit grid.percents in params.yaml"
        )
    K = math.floor(N * (1 - percent / 100) + 1e-9)
    if K < 1:
        raise ParamsError(
            expected="at least one kept token",
            got=f"{percent} % pruned of {N} tokens, which keeps none",
            fix="lower the ratio or enlarge the image",
        )
    return K


def shares(sizes: Sequence[int], K: int) -> list[int]:
    """K split over images of `sizes` tokens in proportion, by the largest remainder: adds up to K.

    Where K is at least the number of images, none is left without a token. Of equal remainders the earlier image's
    comes first.
    """
    N = sum(sizes)
    whole = [size * K // N for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: -(sizes[i] * K % N))
    for i in by_remainder[: K - sum(whole)]:
        whole[i] += 1
    while len(sizes) <= K and 0 in whole:
        whole[whole.index(max(whole))] -= 1
        whole[whole.index(0)] += 1
    return whole


def top_k_ascending(scores: Float[Tensor, "B N"], K: int) -> Int[Tensor, "B K"]:
    """Indices of the K highest scores in reading order; of equal scores the earlier token is kept."""
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :K]
    return order.sort(dim=1).values


def gather_tokens(tokens: Float[Tensor, "B N D"], indices: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
    """The kept tokens, in the order of `indices`."""
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))


def gather_positions(positions: Int[Tensor, "3 B N"], indices: Int[Tensor, "B K"]) -> Int[Tensor, "3 B K"]:
    """The original M-RoPE ids of the kept tokens: gathered, never recomputed."""
    return positions.gather(2, indices[None].expand(3, -1, -1))


def foreground_share(mask: Bool[Tensor, "B H W"], grid: tuple[int, int]) -> Float[Tensor, "B N"]:
    """Share of each token's pixels that is foreground (True in `mask`), tokens in reading order."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(mask[:, None].float(), grid)
    return pooled.flatten(1)


def recall(kept: Bool[Tensor, "B N"], wanted: Bool[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Share of each row's wanted tokens that are kept; NaN where none is wanted."""
    return (kept & wanted).sum(dim=1) / wanted.sum(dim=1)


# M-RoPE position ids of Qwen2.5-VL. Rules: research/pruning.md 1.6; checked on tests/cases/qwen_mrope_*.


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
