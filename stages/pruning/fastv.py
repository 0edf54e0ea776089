"""FastV (Chen et al., ECCV 2024): the tokens that the last prompt token attends to most, after the first layers.

Written from the maths in research/pruning.md 1.1. The K of the paper is `layer` here: layers 0 to K-1 read everything,
the attention is that of layer K-1, and layer K is the first to read fewer tokens. Tokens of all images share one pool.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from stages.pruning.base import AttentionPruner, TokenView, row_attention_flops
from stages.pruning.view import attention_rows


def last_row_scores(attention: Float[Tensor, "B heads n N"]) -> Float[Tensor, "B N"]:
    """Mean over heads of the last prompt token's attention, in fp32."""
    return attention[:, :, -1].float().mean(dim=1)


@dataclass(frozen=True)
class Pruner(AttentionPruner):
    """What the last prompt token attends to in layer `layer` - 1."""

    def score(self, view: TokenView) -> Float[Tensor, "B N"]:
        return last_row_scores(attention_rows(view, 1))

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """One row of attention."""
        return row_attention_flops(1, N, L, D)
