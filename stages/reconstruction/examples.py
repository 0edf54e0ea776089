"""What a run leaves for the report: its history as a table, and reconstructions as pictures (Figure 4 of the paper)."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stages.backbone.patches import TOKEN_PX
from stages.files import write_bytes, write_text
from stages.reconstruction.data import Samples
from stages.reconstruction.evaluation import Row
from stages.reconstruction.model import Reconstruction

COLUMNS = (
    *("step", "split", "loss", "loss_fore", "loss_back", "keep_share", "auc", "auc_row_prior"),
    *("pruner_grad_norm", "decoder_grad_norm", "pruner_lr", "decoder_lr"),
)


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
def write_examples(folder: Path, module: Reconstruction, samples: Samples, count: int) -> list[Path]:
    """`example_<i>_{image,target_fore,target_back,fore,back}.png` of `count` images, evenly over `samples`."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    (batch,) = samples.batches([chosen])
    rebuilt = module(batch.tokens.to(module.pruner.mean.device), samples.grid)
    fore, back = batch.fore / 255, batch.back / 255
    pictures = {"image": fore + back, "target_fore": fore, "target_back": back}
    pictures |= {"fore": rebuilt.fore.cpu(), "back": rebuilt.back.cpu()}
    zoom = max(1, TOKEN_PX * samples.grid[0] // fore.shape[2])
    paths = []
    for name, images in pictures.items():
        for i, image in enumerate(images):
            paths.append(folder / f"example_{i}_{name}.png")
            write_bytes(paths[-1], png(image, zoom))
    return sorted(paths)


def png(image: Float[Tensor, "3 H W"], zoom: int) -> bytes:
    """A PNG of values in [0, 1] (clamped), each pixel as a square of `zoom` pixels."""
    import cv2

    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    large = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return cv2.imencode(".png", large[:, :, ::-1])[1].tobytes()
