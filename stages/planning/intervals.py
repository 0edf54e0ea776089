"""95 % intervals and AUC. Key frames of a scene resemble each other, so means are resampled by scene, not by frame."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(events: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate, as shares: wide even with no event, (0, 1) when nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    share, weight = events / n, Z_95**2 / n
    center = (share + weight / 2) / (1 + weight)
    half = Z_95 * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return (0.0 if events == 0 else center - half), (1.0 if events == n else center + half)


def bootstrap(
    values: Float[np.ndarray, " N"], scenes: Sequence[str] | NDArray[Any], resamples: int, seed: int
) -> tuple[float, float]:
    """Return the percentile 95 % interval of the mean of `values`, N >= 1, drawing whole scenes with replacement.

    With one scene only, its samples are drawn instead: too narrow, but no interval of width zero.
    """
    names, groups = np.unique(np.asarray(scenes), return_inverse=True)
    if len(names) == 1:
        groups = np.arange(len(values))
    sums, counts = np.bincount(groups, weights=values), np.bincount(groups)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    method: Float[np.ndarray, " N"],
    baseline: Float[np.ndarray, " N"],
    scenes: Sequence[str] | NDArray[Any],
    resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """Return the mean of `method - baseline` on the same N >= 1 samples, and its 95 % interval without shared noise."""
    differences = method - baseline
    return float(differences.mean()), *bootstrap(differences, scenes, resamples, seed)


def auc(scores: Float[np.ndarray, " N"], wanted: Bool[np.ndarray, " N"]) -> float | None:
    """Return the chance that a wanted token outscores another, ties half (by Mann-Whitney's U); None without both."""
    n, others = int(wanted.sum()), int((~wanted).sum())
    if not n or not others:
        return None
    _, at, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2  # from 1; equal scores share their mean rank. N log N; all pairs: N^2
    return float((ranks[at][wanted].sum() - n * (n + 1) / 2) / (n * others))
