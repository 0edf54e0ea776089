"""Keep every token: the unpruned baseline."""

from dataclasses import dataclass

from stages.pruning.base import Kept, TokenView, everything
from stages.pruning.base import Pruner as Base


@dataclass(frozen=True)
class Pruner(Base):
    """The identity."""

    def select(self, view: TokenView, K: int) -> Kept:
        N = view.tokens.shape[1]
        assert K == N, f"the unpruned baseline was asked to keep {K} of {N} tokens"
        return everything(view)
