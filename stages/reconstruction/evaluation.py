"""How well a pruner ranks foreground and how well both branches are rebuilt, on images kept from training."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stages.reconstruction.data import Batch, Samples
from stages.reconstruction.losses import branch_loss, total_loss
from stages.reconstruction.model import Rebuilt, Reconstruction
from stages.reconstruction.options import TrainPruner


def foreground_auc(scores: Float[Tensor, "B N"], foreground: Bool[Tensor, "B N"]) -> Float[Tensor, " V"]:
    """Per image: the chance that a foreground token outscores a background token, ties half. True is foreground.

    Images without one of the two are left out, so V <= B.
    """
    rows = [(row[mask], row[~mask]) for row, mask in zip(scores, foreground, strict=True)]
    pairs = [inside[:, None] - outside[None] for inside, outside in rows if len(inside) and len(outside)]
    return (
        torch.stack([(p > 0).float().mean() + (p == 0).float().mean() / 2 for p in pairs])
        if pairs
        else scores.new_empty(0)
    )


def losses(rebuilt: Rebuilt, batch: Batch, options: TrainPruner) -> tuple[Tensor, Tensor, Tensor]:
    """Total, foreground and background loss of a batch (Eq. 7-8)."""
    fore, back = (
        branch_loss(image, target.float() / 255, options.ssim_weight, options.ssim_window_px)
        for image, target in ((rebuilt.fore, batch.fore), (rebuilt.back, batch.back))
    )
    return total_loss(fore, back, options.alpha), fore, back


Row = Mapping[str, int | float | str]
MEASURED = ("loss", "loss_fore", "loss_back", "keep_share")


@torch.no_grad()
def evaluate(module: Reconstruction, samples: Samples, options: TrainPruner) -> dict[str, float]:
    """Means over all images of `samples`: the losses, the share of tokens with S > 0, and the AUC of S for foreground.

    `auc_row_prior` is the AUC of looking at nothing and preferring lower rows: the floor in a forward camera.
    """
    h, w = samples.grid
    rows = torch.arange(h).repeat_interleave(w).float()
    device = next(module.parameters()).device
    sums, aucs, floors = torch.zeros(4, dtype=torch.float64), [], []
    for batch in samples.batches(_groups(len(samples), options.batch_size)):
        rebuilt = module(batch.tokens.to(device), samples.grid)
        means = [*losses(rebuilt, batch.to(device), options), rebuilt.keep.mean()]
        sums += torch.stack(means).double().cpu() * len(batch)
        foreground = batch.share > options.mask_threshold
        aucs.append(foreground_auc(rebuilt.scores.cpu(), foreground))
        floors.append(foreground_auc(rows.expand(len(batch), -1), foreground))
    values = [*(sums / len(samples)).tolist(), torch.cat(aucs).mean().item(), torch.cat(floors).mean().item()]
    return dict(zip((*MEASURED, "auc", "auc_row_prior"), values, strict=True))


def final_figures(history: Sequence[Row], last: int = 20) -> dict[str, dict[str, float]]:
    """The last evaluation on held-out images, and the means of the `last` training steps."""
    ends = [row for row in history if row["split"] == "held_out"][-1]
    steps = [row for row in history if row["split"] == "train"][-last:]
    train = {name: sum(float(row[name]) for row in steps) / len(steps) for name in MEASURED}
    measured = {name: round(float(ends[name]), 6) for name in (*MEASURED, "auc", "auc_row_prior")}
    return {"held_out": measured, "train": {name: round(value, 6) for name, value in train.items()}}


def _groups(count: int, size: int) -> Sequence[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
