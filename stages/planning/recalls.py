"""How much of the true foreground a pruner kept and how it ranks it, where the truth is known (the drawn world)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from stages.planning.intervals import bootstrap
from stages.planning.plans import PlannedSample
from stages.planning.ranks import auc
from stages.tokens import class_tokens, recall

RECALLS = ("foreground_recall", "object_recall")
AUCS = ("foreground_auc", "object_auc")
SHARES = (*RECALLS, *AUCS)


def token_recalls(plan: PlannedSample, classes: UInt8[np.ndarray, "H W"] | None) -> dict[str, float | None]:
    """Shares of the image's foreground and object tokens that the plan's pruner kept.

    None where the image has none, its truth is not known (no `classes`), or the plan saw no image.
    """
    if classes is None or not plan.tokens_total:
        return dict.fromkeys(RECALLS)
    kept = torch.zeros(1, plan.grid[0] * plan.grid[1], dtype=torch.bool)
    kept[0, torch.from_numpy(plan.kept)] = True
    shares = [recall(kept, wanted).item() for wanted in class_tokens(torch.from_numpy(classes), plan.grid)]
    return {name: None if np.isnan(share) else share for name, share in zip(RECALLS, shares, strict=True)}


def token_aucs(plan: PlannedSample, classes: UInt8[np.ndarray, "H W"] | None) -> dict[str, float | None]:
    """`auc` of the image's foreground tokens over its background, and of its object tokens over all others.

    None where one of the two sides is empty, the truth is not known, or the plan's pruner does not rank tokens.
    """
    if classes is None or plan.scores is None:
        return dict.fromkeys(AUCS)
    sides = class_tokens(torch.from_numpy(classes), plan.grid)
    return {name: auc(plan.scores, wanted[0].numpy()) for name, wanted in zip(AUCS, sides, strict=True)}


def mean_shares(samples: Sequence[Mapping[str, Any]], resamples: int, seed: int) -> dict[str, float | int | None]:
    """Mean of each recall and AUC over the `_n` samples that have one, and its 95 % interval; None where none has."""
    row: dict[str, float | int | None] = {}
    for name in SHARES:
        known = [sample for sample in samples if sample.get(name) is not None]
        values, scenes = np.array([sample[name] for sample in known], float), [str(s["scene"]) for s in known]
        low, high = bootstrap(values, scenes, resamples, seed) if known else (None, None)
        mean = float(values.mean()) if known else None
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_n": len(known)}
    return row
