"""Ground-truth mask and text attention (Table 3 of the paper): a reference, no method, for it reads the truth.

Tokens inside the foreground mask first, then the others; each group by what the text attends to.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stages.core.errors import DataError
from stages.pruning.base import AttentionPruner, TokenView
from stages.pruning.text_attention import text_scores
from stages.pruning.view import attention_rows, text_after


def masked_ranks(attention: Float[Tensor, "B N"], inside: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """N - 1 down to 0 by attention, and N more inside the mask; NaN where attention is no number.

    Ranks, because attention + 1 in fp32 would round away the small differences between tokens inside the mask. Of equal
    attention the earlier token ranks higher.
    """
    N = attention.shape[1]
    order = attention.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.arange(N - 1, -1, -1, dtype=torch.float32, device=attention.device).expand_as(attention)
    ranks = torch.zeros_like(ranks).scatter(1, order, ranks)
    return torch.where(attention.isfinite(), ranks + N * inside, torch.nan)


@dataclass(frozen=True)
class Pruner(AttentionPruner):
    """Tokens with more than `threshold` of their area under the ground-truth mask first."""

    threshold: int | float = 0.5

    def score(self, view: TokenView) -> Float[Tensor, "B N"]:
        if view.foreground is None:
            raise DataError(
                expected="the ground-truth mask of each image in TokenView.foreground, by which this reference chooses",
                got="none",
                fix="run `dvc repro generate_masks`, or take masked_text_attention out of the pruners in params.yaml",
            )
        attention = text_scores(attention_rows(view, text_after(view).shape[1]))
        return masked_ranks(attention, view.foreground > self.threshold)
