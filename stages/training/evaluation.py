"""How well a pruner ranks foreground and how well both branches are rebuilt, on images kept from training."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stages.backbone.tokens import keep_count, recall, top_k_ascending
from stages.core.progress import progress
from stages.planning.intervals import auc
from stages.training.data import Samples
from stages.training.model import Reconstruction, losses
from stages.training.options import TrainPruner

Row = Mapping[str, int | float | str | None]
MEASURED = ("loss", "loss_fore", "loss_back", "keep_share")
PRUNED_PERCENTS = (25, 50, 75)  # at which the recall of foreground tokens is watched
SALIENCY, BINS = "saliency", 16  # a step's histogram, as counts with spaces between
RANKING = ("auc", "auc_row_prior", *(f"recall_{percent}" for percent in PRUNED_PERCENTS))


def foreground_auc(scores: Float[Tensor, "B N"], foreground: Bool[Tensor, "B N"]) -> Float[Tensor, " V"]:
    """Per image: the chance that a foreground token outscores a background token, ties half. True is foreground.

    Images without one of the two are left out, so V <= B.
    """
    found = (auc(row.numpy(), mask.numpy()) for row, mask in zip(scores.cpu(), foreground.cpu(), strict=True))
    return torch.tensor([value for value in found if value is not None])


def foreground_recall(
    scores: Float[Tensor, "B N"], foreground: Bool[Tensor, "B N"], percent: int
) -> Float[Tensor, " B"]:
    """Per image: the share of foreground tokens among those kept when `percent` are pruned; NaN without any."""
    kept = torch.zeros_like(foreground)
    kept.scatter_(1, top_k_ascending(scores, keep_count(scores.shape[1], percent)), value=True)
    return recall(kept, foreground)


def histogram(scores: Float[Tensor, "B N"]) -> str:
    """How many of the scores lie in each of BINS equal parts of sigmoid(S), lowest first: `12 0 ... 3`."""
    counts = torch.histc(torch.sigmoid(scores.detach().float().cpu()), BINS, min=0.0, max=1.0)
    return " ".join(str(int(count)) for count in counts.tolist())


@torch.no_grad()
def evaluate(module: Reconstruction, samples: Samples, options: TrainPruner, size: int) -> dict[str, float | None]:
    """Means over all images, `size` at a time: the losses, the share of tokens with S > 0, how S ranks foreground.

    `auc_row_prior` is the AUC of looking at nothing and preferring lower rows: the floor in a forward camera. None
    where there is nothing to measure.
    """
    h, w = samples.grid
    rows = torch.arange(h).repeat_interleave(w).float()
    device = module.pruner.mean.device
    sums, ranked = torch.zeros(4, dtype=torch.float64), dict[str, list[Tensor]]()
    groups = _groups(len(samples), size)
    for batch in progress(samples.batches(groups), len(groups), f"evaluate on {len(samples)} held-out images"):
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            rebuilt = module(batch.tokens, samples.grid)
        means = [*losses(rebuilt, batch, options), rebuilt.keep.mean()]
        sums += torch.stack(means).double().cpu() * len(batch)
        scores, foreground = rebuilt.scores.cpu(), batch.share.cpu() > options.mask_threshold
        ranked.setdefault("auc", []).append(foreground_auc(scores, foreground))
        ranked.setdefault("auc_row_prior", []).append(foreground_auc(rows.expand(len(batch), -1), foreground))
        for percent in PRUNED_PERCENTS:
            ranked.setdefault(f"recall_{percent}", []).append(foreground_recall(scores, foreground, percent))
    values = dict(zip(MEASURED, (sums / len(samples)).tolist(), strict=True))
    values |= {name: float(torch.cat(parts).nanmean()) for name, parts in ranked.items()}
    return known(values)


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with None in the place of NaN: what was not measured, as a branch that is not painted."""
    return {name: None if value != value else value for name, value in values.items()}


def final_figures(history: Sequence[Row], step: int, last: int = 20) -> dict[str, dict[str, float | None]]:
    """The evaluation on held-out images after `step`, and the means of the `last` training steps; 6 digits."""
    ends = next(row for row in history if row["split"] == "held_out" and row["step"] == step)
    steps = [row for row in history if row["split"] == "train"][-last:]
    return {
        "held_out": {name: _rounded([ends[name]]) for name in (*MEASURED, *RANKING)},
        "train": {name: _rounded([row[name] for row in steps]) for name in MEASURED},
    }


def _rounded(values: Sequence[int | float | str | None]) -> float | None:
    numbers = [float(value) for value in values if value is not None]
    return round(sum(numbers) / len(numbers), 6) if numbers else None


def _groups(count: int, size: int) -> Sequence[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
