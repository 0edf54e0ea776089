"""Random visual tokens with all that a pruner may ask about them, and what must hold for every choice."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stages.backbone.attention import VisionFacts
from stages.backbone.mrope import image_positions
from stages.efficiency.counted import count
from stages.pruning.base import Kept, Pruner, TokenView, check_kept, verdict

D, R, HEADS = 64, 5, 2  # width, text tokens after the images, heads


def make_view(B: int = 2, grids: tuple[tuple[int, int], ...] = ((6, 8),), seed: int = 0) -> TokenView:
    """A view between two layers; the attention of the last R tokens is there, and everything else."""
    random = torch.Generator().manual_seed(seed)
    N = sum(h * w for h, w in grids)
    positions = torch.cat([image_positions(grid, B) + 100 * i for i, grid in enumerate(grids)], dim=2)
    attention = torch.randn(B, HEADS, R, N, generator=random).softmax(dim=3)
    return TokenView(
        tokens=torch.randn(B, N, D, generator=random),
        grids=grids,
        positions=positions,
        keys=tuple(f"sample{i}" for i in range(B)),
        encoder="encoder",
        foreground=torch.rand(B, N, generator=random),
        vision=VisionFacts(torch.rand(B, N, generator=random), torch.randn(B, N, D, generator=random)),
        text=torch.randn(B, R, D, generator=random),
        inputs=torch.randn(B, N, D, generator=random),
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


def check_choice(pruner: Pruner, K: int, view: TokenView | None = None) -> None:
    """All that holds for any method: exactly K, a batch equals its singles, the view stays as it is, no waiting."""
    view = make_view() if view is None else view
    before = [part.clone() for part in _parts(view)]
    kept = check_kept(pruner.select(view, K), view.tokens, K, "the method")
    assert all(torch.equal(old, new) for old, new in zip(before, _parts(view), strict=True))
    for i in range(view.tokens.shape[0]):
        single = pruner.select(rows(view, slice(i, i + 1)), K)
        assert torch.equal(single.indices[0], kept.indices[i])
        if kept.extra_tokens is not None and kept.extra_positions is not None:
            assert single.extra_tokens is not None
            assert single.extra_positions is not None
            assert torch.equal(single.extra_tokens[0], kept.extra_tokens[i])
            assert torch.equal(single.extra_positions[:, 0], kept.extra_positions[:, i])
    # Tensors on the meta device have no values: whoever asks for one, as waiting for a device does, fails
    assert pruner.select(mapped(view, lambda part: part.to("meta")), K).indices.shape == kept.indices.shape


def check_not_a_number_is_told(pruner: Pruner, K: int, view: TokenView) -> None:
    """NaN breaks no index and is reported."""
    kept: Kept = pruner.select(view, K)
    assert not bool(verdict(kept, view.tokens)[2])


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


def _parts(view: TokenView) -> list[Tensor]:
    found: list[Tensor] = []

    def see(part: Tensor) -> Tensor:
        found.append(part)
        return part

    mapped(view, see)
    return found


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
