"""How much of the true foreground a pruner kept, where the truth is known (the drawn world)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from stages.planning.plans import PlannedSample
from stages.tokens import class_tokens, recall

RECALLS = ("foreground_recall", "object_recall")


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


def mean_recalls(samples: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of each recall over the samples that have one; None where none has."""
    known = {name: [row[name] for row in samples if row.get(name) is not None] for name in RECALLS}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}
