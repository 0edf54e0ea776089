"""A reconstruction at dummy width: options, random samples whose foreground is written in the tokens, a module."""

from collections.abc import Callable
from pathlib import Path

import torch
from tiny import SHAPE

from stages.core.params import TrainPruner, read_params
from stages.training.data import Batch, EncodedSamples
from stages.training.evaluation import Row
from stages.training.model import Reconstruction, build
from stages.training.trainer import Trainer, nothing

GRID = (4, 6)
PARAMS = Path(__file__).parents[1] / "params.yaml"


def make_options(**changes: object) -> TrainPruner:
    """The default options cut down to six steps of four images."""
    small = {"steps": 6, "batch_size": 4, "decoder_layers": 1, "decoder_width": 12, "pixels_per_token": 4}
    small |= {"warmup_steps": 2, "decoder_first_steps": 0, "ssim_window_px": 5, "threads": 1, "checkpoint_every_s": 1e6}
    values = read_params(PARAMS).train_pruner.model_dump() | small | changes
    return TrainPruner.model_validate(values)


def make_samples(count: int, seed: int = 0) -> EncodedSamples:
    """Images of flat tokens, each of a light of its own; the features say the light, and which are foreground."""
    random = torch.Generator().manual_seed(seed)
    h, w = GRID
    foreground = torch.rand(count, h * w, generator=random) < 0.4
    tokens = torch.randn(count, h * w, SHAPE.width, generator=random)
    tokens[:, :, 0] += 4.0 * foreground
    light = 60 + 190 * torch.rand(count, h * w, generator=random)
    tokens[:, :, 1] = (light - 155) / 40
    light = light.view(count, 1, h, w).expand(-1, 3, -1, -1)
    image = light.repeat_interleave(4, 2).repeat_interleave(4, 3)
    mask = foreground.view(count, 1, h, w).repeat_interleave(4, 2).repeat_interleave(4, 3)
    batch = Batch(tokens, (image * mask).to(torch.uint8), (image * ~mask).to(torch.uint8), foreground.float())
    return EncodedSamples(batch, GRID)


def make_module(options: TrainPruner) -> Reconstruction:
    """The module that training starts from."""
    return build(SHAPE, options)


def train(
    folder: Path, options: TrainPruner, record: Callable[[dict[str, float], int], None] = nothing
) -> tuple[dict[str, torch.Tensor], list[Row]]:
    """Train, or go on training, in this process; weights and history."""
    torch.set_num_threads(1)
    trainer = Trainer(make_module(options), options, folder)
    history = trainer.run(make_samples(10), make_samples(4, seed=1), record)
    return trainer.module.state_dict(), history
