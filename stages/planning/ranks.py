"""How well scores put wanted tokens before the others."""

import numpy as np
from jaxtyping import Bool, Float


def auc(scores: Float[np.ndarray, " N"], wanted: Bool[np.ndarray, " N"]) -> float | None:
    """The chance that a wanted token (True) outscores one that is not, ties half; None when either side is empty.

    By ranks, as Mann and Whitney's U: N log N, where comparing all pairs of 3,249 tokens takes millions of steps.
    """
    n, others = int(wanted.sum()), int((~wanted).sum())
    if not n or not others:
        return None
    _, at, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2  # from 1; equal scores share their mean rank
    return float((ranks[at][wanted].sum() - n * (n + 1) / 2) / (n * others))
