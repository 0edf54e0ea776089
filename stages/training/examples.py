"""What a run shows of itself: its history as a table, reconstructions (Figure 4) and kept tokens (Figure 5)."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stages.backbone.patches import TOKEN_PX
from stages.backbone.tokens import keep_count, top_k_ascending
from stages.core.io import write_bytes, write_text
from stages.training.data import Samples
from stages.training.evaluation import MEASURED, PRUNED_PERCENTS, RANKING, SALIENCY, Row
from stages.training.model import Reconstruction

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


def write_history(path: Path, rows: Sequence[Row]) -> Path:
    """A row per step and per evaluation; empty where a number was not measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{cell:.6g}" if isinstance(cell, float) else cell for name, cell in row.items()})
    write_text(path, text.getvalue())
    return path


@torch.no_grad()
def pictures(module: Reconstruction, samples: Samples, count: int) -> dict[str, Float[Tensor, "C 3 H W"]]:
    """Of `count` images, evenly over `samples`, in [0, 1]: the image, what the masks leave of it, what was painted.

    `kept_<p>` has the tokens dimmed that go when p % are pruned. Branches that are not painted are left out.
    """
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    (batch,) = samples.batches([chosen])
    batch = batch.to(module.pruner.mean.device)
    rebuilt = module(batch.tokens, samples.grid)
    fore, back = batch.fore / 255, batch.back / 255
    found = {"image": fore + back, "target_fore": fore, "target_back": back}
    found |= {name: part for name, part in (("fore", rebuilt.fore), ("back", rebuilt.back)) if part is not None}
    for percent in PRUNED_PERCENTS:
        found[f"kept_{percent}"] = dimmed(fore + back, rebuilt.scores, samples.grid, percent)
    return {name: images.clamp(0, 1).cpu() for name, images in found.items()}


def dimmed(
    images: Float[Tensor, "B 3 H W"], scores: Float[Tensor, "B N"], grid: tuple[int, int], percent: int
) -> Float[Tensor, "B 3 H W"]:
    """The images with the tokens dark that the lowest `percent` of the scores drop."""
    light = torch.full_like(scores, DIMMED)
    light.scatter_(1, top_k_ascending(scores, keep_count(scores.shape[1], percent)), 1.0)
    side = images.shape[2] // grid[0]
    squares = light.view(-1, 1, *grid).repeat_interleave(side, 2).repeat_interleave(side, 3)
    return images * squares


def write_examples(folder: Path, module: Reconstruction, samples: Samples, count: int) -> list[Path]:
    """`example_<i>_<name>.png` of all that `pictures` gives."""
    paths = []
    for name, images in pictures(module, samples, count).items():
        for i, image in enumerate(images):
            paths.append(folder / f"example_{i}_{name}.png")
            write_bytes(paths[-1], png(image, zoom(images, samples.grid)))
    return sorted(paths)


def write_figures(folder: Path, module: Reconstruction, samples: Samples, count: int, step: int) -> list[Path]:
    """`<figure>_<step>.png` for each of FIGURES: a column per image, a row per picture."""
    shown = pictures(module, samples, count)
    paths = []
    for figure, names in FIGURES.items():
        rows = [torch.cat(list(shown[name]), dim=2) for name in names if name in shown]
        if figure == "reconstruction" and "fore" not in shown:
            continue
        paths.append(folder / f"{figure}_{step:07d}.png")
        write_bytes(paths[-1], png(torch.cat(rows, dim=1), zoom(shown["image"], samples.grid)))
    return paths


def zoom(images: Float[Tensor, "C 3 H W"], grid: tuple[int, int]) -> int:
    """How many times larger the tower sees these images."""
    return max(1, TOKEN_PX * grid[0] // images.shape[2])


def png(image: Float[Tensor, "3 H W"], zoom: int) -> bytes:
    """A PNG of values in [0, 1] (clamped), each pixel as a square of `zoom` pixels."""
    import cv2

    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    large = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return cv2.imencode(".png", large[:, :, ::-1])[1].tobytes()
