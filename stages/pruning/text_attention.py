"""Text attention (Table 3 of the paper): the tokens that the text after the images attends to most.

The paper says neither layer nor queries. Its number at 50 % is that of neither FastV (one query) nor SparseVLM (chosen
queries), so we take all text after the last image, in the layer that FastV looks at; research/pruning.md 1.5.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from stages.pruning.base import AttentionPruner, TokenView
from stages.pruning.view import attention_rows, text_after


def text_scores(attention: Float[Tensor, "B heads R N"]) -> Float[Tensor, "B N"]:
    """Mean over heads and over the R text rows, in fp32."""
    return attention.float().mean(dim=(1, 2))


@dataclass(frozen=True)
class Pruner(AttentionPruner):
    """What the text after the images attends to in layer `layer` - 1."""

    def score(self, view: TokenView) -> Float[Tensor, "B N"]:
        return text_scores(attention_rows(view, text_after(view).shape[1]))
