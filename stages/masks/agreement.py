"""How well a class map agrees with the truth: pixel sums per image, ratios only at the end. Pure numpy."""

import numpy as np
from jaxtyping import Float, Int, UInt8

ROWS = 1 + 5  # row 0: foreground of any class; row i: class i of stages.masks.base.CLASSES


def overlap(ours: UInt8[np.ndarray, "H W"], truth: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, "6 2"]:
    """Pixels in the intersection and in the union: of foreground (row 0) and of each class."""
    pairs = np.bincount(ours.ravel().astype(np.int64) * ROWS + truth.ravel(), minlength=ROWS * ROWS).reshape(ROWS, ROWS)
    both = pairs.diagonal().copy()
    either = pairs.sum(0) + pairs.sum(1) - both
    both[0], either[0] = pairs[1:, 1:].sum(), pairs.sum() - pairs[0, 0]
    return np.stack([both, either], axis=1)


def iou(sums: Int[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any"]:
    """Intersection over union of summed pixels; NaN where neither has a pixel."""
    both, either = sums[..., 0].astype(float), sums[..., 1].astype(float)
    return np.divide(both, either, out=np.full(either.shape, np.nan), where=either > 0)


def interval(sums: Int[np.ndarray, "S 2"], resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the IoU over S scenes, which are independent where images of one scene are not."""
    S = len(sums)
    picks = np.random.default_rng(seed).integers(0, S, (resamples, S))
    low, high = np.nanquantile(iou(sums[picks].sum(axis=1)), [0.025, 0.975])
    return float(low), float(high)
