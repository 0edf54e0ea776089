"""A pruner with random weights in a folder, as train_pruner leaves one."""

from dataclasses import asdict
from pathlib import Path

import torch

from stages.backbone.qwen import Model, decoder_shape, encoder_fingerprint
from stages.pruning import checkpoint
from stages.pruning.recon import ReconPruner


def save_pruner(folder: Path, model: Model, encoder: str = "", **facts: str) -> Path:
    """A pruner with random weights for `model`."""
    shape = decoder_shape(model)
    torch.manual_seed(0)
    config = {"layer": asdict(shape), "encoder": encoder or encoder_fingerprint(model), **facts}
    checkpoint.save(folder, ReconPruner(shape), config)
    return folder
