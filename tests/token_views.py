"""Random visual tokens with all that a pruner may ask about them, and what must hold for every choice."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stages.backbone.attention import VisionFacts
from stages.backbone.tokens import image_positions
from stages.efficiency.counted import count
from stages.pruning.base import Kept, Pruner, TokenView, check_shape, check_verdict, verdict

D, R, HEADS = 64, 5, 2  # width, text tokens after the images, heads


def make_view(B: int = 2, grids: tuple[tuple[int, int], ...] = ((6, 8),), seed: int = 0, width: int = D) -> TokenView:
    """A view between two layers; the attention of the last R tokens is there, and everything else."""
    random = torch.Generator().manual_seed(seed)
    N = sum(h * w for h, w in grids)
    positions = torch.cat([image_positions(grid, B) + 100 * i for i, grid in enumerate(grids)], dim=2)
    attention = torch.randn(B, HEADS, R, N, generator=random).softmax(dim=3)
    return TokenView(
        tokens=torch.randn(B, N, width, generator=random),
        grids=grids,
        positions=positions,
        keys=tuple(f"image{i}" for i in range(B)),
        encoder="encoder",
        foreground=torch.rand(B, N, generator=random),
        vision=VisionFacts(torch.rand(B, N, generator=random), torch.randn(B, N, width, generator=random)),
        text=torch.randn(B, R, width, generator=random),
        inputs=torch.randn(B, N, width, generator=random),
        attention=lambda n: attention[:, :, R - n :],
    )


def rows(view: TokenView, chosen: slice) -> TokenView:
    """The view of some rows of the batch."""
    attention, per_row = view.attention, len(view.grids)
    vision = view.vision
    return replace(
        view,
        tokens=view.tokens[chosen],
        positions=view.positions[:, chosen],
        keys=view.keys[chosen],
        sources=view.sources[chosen.start * per_row : chosen.stop * per_row] if view.sources else (),
        foreground=None if view.foreground is None else view.foreground[chosen],
        vision=None if vision is None else VisionFacts(vision.importance[chosen], vision.features[chosen]),
        text=None if view.text is None else view.text[chosen],
        inputs=None if view.inputs is None else view.inputs[chosen],
        attention=None if attention is None else lambda n: attention(n)[chosen],
    )


def attending(view: TokenView, attention: Tensor) -> TokenView:
    """The view with another attention of its last tokens: "B heads R N"."""
    return replace(view, attention=lambda n: attention[:, :, attention.shape[2] - n :])


def check_kept(kept: Kept, tokens: Tensor, K: int, method: str = "the method") -> Kept:
    """`kept`, held to every post-condition of a choice of K of `tokens`, as the host holds it."""
    check_shape(kept, tokens.shape[0], K, method)
    check_verdict(verdict(kept, tokens), method)
    return kept


def check_cost(pruner: Pruner, K: int, view: TokenView | None = None) -> None:
    """The stated cost is that of the products torch sees, or up to a tenth more."""
    view = make_view(1) if view is None else view
    N, ask = view.tokens.shape[1], view.attention
    assert ask is not None

    def attention(n: int) -> Tensor:
        queries = torch.zeros(n, D) @ torch.zeros(D, D)
        _ = queries @ torch.zeros(D, N + R)
        return ask(n)

    counted = sum(count(lambda: pruner.select(replace(view, attention=attention), K)))
    assert counted <= pruner.flops(N, K, D, lambda n: 0, R) <= 1.1 * counted


def mapped(view: TokenView, change: Callable[[Tensor], Tensor]) -> TokenView:
    """The view with every tensor of it changed; all of them must be there."""
    vision, ask = view.vision, view.attention
    assert vision is not None
    assert ask is not None
    assert view.text is not None
    rows = view.text.shape[1]
    attention = change(ask(rows))
    return replace(
        view,
        **{name: change(getattr(view, name)) for name in ("tokens", "positions", "foreground", "text", "inputs")},
        vision=VisionFacts(change(vision.importance), change(vision.features)),
        attention=lambda n: attention[:, :, rows - n :],
    )
