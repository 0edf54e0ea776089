"""Evaluation on held-out images: ranking of foreground, losses; the history as a table, Figures 4 and 5 as pictures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stages.backbone.qwen import TOKEN_PX
from stages.backbone.tokens import keep_count, recall, top_k_ascending
from stages.core.io import write_bytes, write_text
from stages.core.progress import progress
from stages.planning.intervals import auc
from stages.training import TrainPruner
from stages.training.data import Samples
from stages.training.model import Reconstruction, losses

Row = Mapping[str, int | float | str | None]
MEASURED = ("loss", "loss_fore", "loss_back", "keep_share")
PRUNED_PERCENTS = (25, 50, 75)  # at which the recall of foreground tokens is watched
SALIENCY, BINS = "saliency", 16  # a step's histogram, as counts with spaces between
RANKING = ("auc", "auc_row_prior", *(f"recall_{percent}" for percent in PRUNED_PERCENTS))
COLUMNS = (
    *("step", "split", *MEASURED, *RANKING),
    *("pruner_grad_norm", "decoder_grad_norm", "pruner_lr", "decoder_lr"),
    SALIENCY,
)
FIGURES = {
    "reconstruction": ("image", "target_fore", "fore", "target_back", "back"),
    "kept_tokens": ("image", *(f"kept_{percent}" for percent in PRUNED_PERCENTS)),
}
DIMMED = 0.2  # of its light is left of a dropped token


def foreground_auc(scores: Float[Tensor, "B N"], foreground: Bool[Tensor, "B N"]) -> Float[Tensor, " V"]:
    """Chance that a foreground token (True) outscores a background token, ties half; V of B images have both."""
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
    """Count the scores in each of BINS equal parts of sigmoid(S), lowest first: `12 0 ... 3`."""
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
    sums, ranked = torch.zeros(4, dtype=torch.float64), defaultdict[str, list[Tensor]](list)
    groups = [range(start, min(start + size, len(samples))) for start in range(0, len(samples), size)]
    for batch in progress(samples.batches(groups), len(groups), f"evaluate on {len(samples)} held-out images"):
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            rebuilt = module(batch.tokens, samples.grid)
        means = [*losses(rebuilt, batch, options), rebuilt.keep.mean()]
        sums += torch.stack(means).double().cpu() * len(batch)
        scores, foreground = rebuilt.scores.cpu(), batch.share.cpu() > options.mask_threshold
        ranked["auc"].append(foreground_auc(scores, foreground))
        ranked["auc_row_prior"].append(foreground_auc(rows.expand(len(batch), -1), foreground))
        for percent in PRUNED_PERCENTS:
            ranked[f"recall_{percent}"].append(foreground_recall(scores, foreground, percent))
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


def write_history(path: Path, rows: Sequence[Row]) -> Path:
    """A row per step and per evaluation; empty where a number was not measured."""
    import pandas

    table = pandas.DataFrame([dict(row) for row in rows], columns=list(COLUMNS))
    write_text(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


@torch.no_grad()
def write_figures(folder: Path, module: Reconstruction, samples: Samples, count: int, step: int) -> list[Path]:
    """`<figure>_<step>.png` for each of FIGURES: a column for each of `count` images, evenly over `samples`.

    A row per picture: the image, what the masks leave of it, what was painted; `kept_<p>` has the tokens dimmed that go
    when p % are pruned. Branches that are not painted are left out. All are enlarged to the size that the tower sees.
    """
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    (batch,) = samples.batches([chosen])
    batch = batch.to(module.pruner.mean.device)
    rebuilt = module(batch.tokens, samples.grid)
    fore, back = batch.fore / 255, batch.back / 255
    shown = {"image": fore + back, "target_fore": fore, "target_back": back, "fore": rebuilt.fore, "back": rebuilt.back}
    for percent in PRUNED_PERCENTS:
        light = torch.full_like(rebuilt.scores, DIMMED)
        light.scatter_(1, top_k_ascending(rebuilt.scores, keep_count(light.shape[1], percent)), 1.0)
        side = fore.shape[2] // samples.grid[0]
        shown[f"kept_{percent}"] = (fore + back) * _enlarged(light.view(-1, 1, *samples.grid), side)
    zoom = max(1, TOKEN_PX * samples.grid[0] // fore.shape[2])
    paths = []
    for figure, names in FIGURES.items():
        if figure == "reconstruction" and rebuilt.fore is None:
            continue
        painted = [images for name in names if (images := shown[name]) is not None]
        rows = [torch.cat(list(_enlarged(images.clamp(0, 1).cpu(), zoom)), dim=2) for images in painted]
        paths.append(write_png(folder / f"{figure}_{step:07d}.png", torch.cat(rows, dim=1)))
    return paths


def _enlarged(images: Float[Tensor, "B C H W"], factor: int) -> Float[Tensor, "B C fH fW"]:
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def write_png(path: Path, image: Float[Tensor, "3 H W"]) -> Path:
    """Write values in [0, 1]."""
    import cv2

    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    write_bytes(path, cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes())
    return path
