"""Scores of a pruner that ranks tokens, recorded while a driver plans."""

from copy import copy

import numpy as np
from jaxtyping import Float
from torch import Tensor

from stages.pruning.base import Pruner, ScoringPruner, TokenView

Scores = dict[str, Float[np.ndarray, " N"]]  # by sample token: reading order, float32, higher is kept


def remembering(pruner: Pruner) -> tuple[Pruner, Scores]:
    """A pruner that chooses as `pruner` does, and where its scores gather; they stay empty for one that does not rank.

    A sample's first scores are remembered: a method inside the language model is asked again for each prune ratio, of
    the same attention. `pruner` itself is left as it is.
    """
    scores: Scores = {}
    if not isinstance(pruner, ScoringPruner):
        return pruner, scores
    ranks, twin = pruner.score, copy(pruner)

    def score(view: TokenView) -> Float[Tensor, "B N"]:
        found = ranks(view)
        if not scores.keys() >= set(view.keys):
            scores.update(zip(view.keys, found.float().cpu().numpy(), strict=True))
        return found

    # Of this one object, which may be frozen: its own `select` goes through it, and failures still name its method
    object.__setattr__(twin, "score", score)
    return twin, scores
