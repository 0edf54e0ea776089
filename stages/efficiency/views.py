"""What pruners are shown at the shapes of a real model, without its weights: random tokens, and an untrained network.

On the meta device the tensors hold no numbers: counted and traced there, a method costs what it costs at full size.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from stages.backbone.attention import VisionFacts, causal_rows, row_attention
from stages.backbone.mrope import image_positions
from stages.backbone.qwen import DecoderShape
from stages.pruning.base import Cut, Pruner, TokenView
from stages.pruning.recon import Pruner as Trained
from stages.pruning.recon import ReconPruner

ENCODER = "encoder"  # the fingerprint that view and untrained pruner agree on
FACTS_WIDTH = 80  # of the keys of Qwen2.5-VL's vision tower, one head


def random_view(
    shape: DecoderShape, grid: tuple[int, int], L: int, device: torch.device, dtype: torch.dtype
) -> TokenView:
    """One image of random tokens ahead of `L` text tokens, with all that a pruner may ask for.

    Attention is computed when it is asked for, as in the host: queries of the last rows, keys from the cache.
    """
    N, D, d = grid[0] * grid[1], shape.width, shape.width // shape.heads

    def draw(*sizes: int) -> Tensor:
        return torch.randn(*sizes, device=device, dtype=dtype)

    hidden, project = draw(1, N + L, D), draw(D, D) / D**0.5
    key = draw(1, shape.kv_heads, N + L, d)
    valid = torch.ones(1, N + L, dtype=torch.bool, device=device)

    def attention(n: int) -> Float[Tensor, "1 heads n N"]:
        query = (hidden[:, -n:] @ project).unflatten(-1, (shape.heads, d)).transpose(1, 2)
        return row_attention(query, key, causal_rows(valid, n), d**-0.5)[..., :N]

    return TokenView(
        tokens=hidden[:, :N],
        grids=(grid,),
        positions=image_positions(grid, 1).to(device),
        keys=("image",),
        encoder=ENCODER,
        foreground=torch.rand(1, N, device=device),
        vision=VisionFacts(torch.rand(1, N, device=device), draw(1, N, FACTS_WIDTH).float()),
        text=draw(1, L, D),
        inputs=draw(1, N, D),
        attention=attention,
    )


def at_cut(view: TokenView, cut: Cut, present: int) -> TokenView:
    """`view` as the host shows it at `cut`, when `present` tokens are left; before the first layer, no attention."""
    if not cut.layer:
        return replace(view, inputs=None, attention=None)
    ask = view.attention
    assert ask is not None
    part = replace(
        view,
        tokens=view.tokens[:, :present],
        positions=view.positions[:, :, :present],
        attention=lambda n: ask(n)[..., :present],
    )
    return part if present == view.tokens.shape[1] else replace(part, vision=None, foreground=None)


def at_shape(
    pruner: Pruner, shape: DecoderShape, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Pruner:
    """`pruner`; a trained one at the width of `shape` with random weights, which cost as much as trained ones."""
    if not isinstance(pruner, Trained):
        return pruner
    with device or torch.device("cpu"):
        return _Untrained(ReconPruner(shape).to(dtype).eval().requires_grad_(False))


class _Untrained(Trained):
    def __init__(self, network: ReconPruner) -> None:
        super().__init__("random weights")
        self.__dict__["_trained"] = (network, ENCODER)  # where Trained keeps what it has read

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        if view.tokens.device.type != "meta":
            return super().score_image(view)
        scores: Tensor = self._trained[0](view.tokens, view.grid)  # of the tokens' dtype: autocast knows no meta
        return scores.float()
