"""What a run will take, told before it begins: measured on its own images, with the module that will learn."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import torch.distributed as dist

from stages.backbone.vision import FastTower
from stages.efficiency.shapes import VisionShape
from stages.training.data import Batch, View, draw
from stages.training.engine import batch_per_rank
from stages.training.loading import StreamedSamples, size_gb
from stages.training.model import Reconstruction
from stages.training.options import TrainPruner
from stages.training.pace import measure_pace
from stages.training.pictures import Picture
from stages.training.token_cache import TokenCache
from stages.training.work import Projection, training_flops


def plan(
    module: Reconstruction,
    parts: tuple[Sequence[Picture], Sequence[Picture]],
    masks_folder: Path,
    tower: FastTower,
    vision: VisionShape,
    cache: TokenCache | None,
    options: TrainPruner,
) -> Projection:
    """The whole run on all ranks, by a second of this one's work; `parts` are training and held-out images.

    Before DeepSpeed takes the module, of which nothing is changed. Raises DataError when an image has no mask,
    ParamsError when the ranks cannot share a batch evenly.
    """
    view, size = View(options.size_px, options.fit, options.pixels_per_token), batch_per_rank(options)
    world, pictures, encodes = dist.get_world_size(), [*parts[0], *parts[1]], None
    if cache is not None:
        encodes = -(-sum(picture.token not in cache for picture in pictures) // world)
    elif size_gb(len(parts[0]), tower, view) <= options.feature_memory_gb:
        encodes = len(pictures)  # each rank for itself
    ready = cache if encodes == 0 else None
    samples = StreamedSamples(parts[0], masks_folder, tower, view, workers=options.workers, cache=ready)

    def batches() -> Iterator[Batch]:
        return samples.batches(draw(len(samples), options.seed, step, size) for step in count())

    pace = measure_pace(module, batches, samples.grid, options, tower.device)
    work = training_flops(tower.decoder_shape, vision if encodes is None else None, samples.grid, options)
    epochs = -(-options.steps * options.batch_size // len(samples))
    evaluated = (epochs + 1) * len(parts[1])  # before the first step, too
    return Projection(work.done, pace, options.steps, options.batch_size, world, encodes, evaluated)
