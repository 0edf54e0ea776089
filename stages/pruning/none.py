"""Keep every token: the unpruned baseline."""

from dataclasses import dataclass

import torch

from stages.pruning.base import Kept, TokenView
from stages.pruning.base import Pruner as Base


@dataclass(frozen=True)
class Pruner(Base):
    """The identity."""

    def select(self, view: TokenView, K: int) -> Kept:
        B, N, _ = view.tokens.shape
        assert K == N, f"the unpruned baseline was asked to keep {K} of {N} tokens"
        return Kept(torch.arange(N).expand(B, N).to(view.tokens.device))
