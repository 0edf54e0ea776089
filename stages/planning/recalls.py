"""How much of the true foreground a pruner kept and how it ranks it, where the truth is known (the drawn world)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from stages.planning.intervals import bootstrap
from stages.planning.plans import PlannedSample
from stages.planning.ranks import auc

RECALLS = ("foreground_recall", "object_recall")
AUCS = ("foreground_auc", "object_auc")
SHARES = (*RECALLS, *AUCS)
Sides = tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]  # True is foreground; True is an object


def sides(classes: UInt8[np.ndarray, "H W"], grid: tuple[int, int]) -> Sides:
    """Which tokens of an image are foreground and which are objects, by its class map."""
    import torch  # here: real data has no class maps, and scores without torch

    from stages.backbone.tokens import class_tokens

    foreground, objects = class_tokens(torch.tensor(classes), grid)
    return foreground[0].numpy(), objects[0].numpy()


def token_recalls(plan: PlannedSample, wanted: Sides | None) -> dict[str, float | None]:
    """Shares of the image's foreground and object tokens that the plan's pruner kept.

    None where the image has none, its truth is not known, or the plan saw no image.
    """
    if wanted is None or plan.kept is None or not plan.tokens_total:
        return dict.fromkeys(RECALLS)
    import torch

    from stages.backbone.tokens import recall

    kept = torch.zeros(1, plan.grid[0] * plan.grid[1], dtype=torch.bool)
    kept[0, torch.tensor(plan.kept, dtype=torch.long)] = True
    shares = [recall(kept, torch.from_numpy(side)[None]).item() for side in wanted]
    return {name: None if np.isnan(share) else share for name, share in zip(RECALLS, shares, strict=True)}


def token_aucs(plan: PlannedSample, wanted: Sides | None) -> dict[str, float | None]:
    """`auc` of the image's foreground tokens over its background, and of its object tokens over all others.

    None where one of the two sides is empty, the truth is not known, or the plan's pruner does not rank tokens.
    """
    if wanted is None or plan.scores is None:
        return dict.fromkeys(AUCS)
    return {name: auc(plan.scores, side) for name, side in zip(AUCS, wanted, strict=True)}


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
