"""Training steps against the clock: the pure pieces of the engine in plain torch, on one process."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import torch

from stages.backbone.qwen import build_model
from stages.backbone.tower import FastTower
from stages.efficiency.shapes import model_shape
from stages.reconstruction.data import Batch, Samples
from stages.reconstruction.model import Reconstruction, build
from stages.reconstruction.optimizer import ClippedAdamW
from stages.reconstruction.options import TrainPruner
from stages.reconstruction.pace import closed, loss_of, now_s
from stages.reconstruction.watching import memory_gb
from stages.reconstruction.work import Work, training_flops

WARMUPS = 3  # steps: kernels are chosen, memory is taken, the reader's processes are up


def options_of(section: Mapping[str, Any], device: torch.device, recompute: bool) -> TrainPruner:
    """The section `train_pruner` of a params file, its weights drawn at random; bf16 where there is a GPU."""
    changed = {"init": "random", "bf16": device.type == "cuda", "recompute": recompute}
    options: Any = SimpleNamespace(**{**section, **changed})  # pydantic, which types it, is not on a bare GPU machine
    typed: TrainPruner = options
    return typed


def random_tower(config: Mapping[str, Any], device: torch.device) -> FastTower:
    """The vision tower of a `config.json` with random weights; bf16 on a GPU, as a checkpoint's is."""
    text = {name: value for name, value in config["text_config"].items() if name != "layer_types"}
    text |= {"num_hidden_layers": 1, "vocab_size": 8, "bos_token_id": None, "eos_token_id": None}  # it is not run
    with torch.device(device):
        model = build_model({**config, "text_config": text})
    return FastTower(model).to(device, torch.bfloat16 if device.type == "cuda" else None)


class Trainee:
    """The tower, a reconstruction with random weights and its optimiser."""

    def __init__(self, config: Mapping[str, Any], options: TrainPruner, device: torch.device) -> None:
        self.options, self.device = options, device
        self.tower = random_tower(config, device)
        self._vision = model_shape(config).vision
        self.module: Reconstruction = build(self.tower.decoder_shape, options).to(device)
        parts = {name: list(part.parameters()) for name, part in self.module.named_children()}
        groups = [{"name": name, "params": part, "clip_norm": 1.0, "lr": 1e-5} for name, part in parts.items()]
        self._optimizer = ClippedAdamW(groups, options.weight_decay, partitioned=False)

    def step(self, batch: Batch, grid: tuple[int, int]) -> None:
        """Scores, hard mask, both branches as one batch, loss, backward pass, clipped AdamW; waits for nothing."""
        loss_of(self.module, batch, grid, self.options).backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def work(self, grid: tuple[int, int], cached: bool) -> Work:
        """FLOPs of one image."""
        return training_flops(self.tower.decoder_shape, None if cached else self._vision, grid, self.options)


@dataclass(frozen=True)
class Run:
    """Some seconds of steps."""

    images: int
    seconds: float
    waited_s: float  # in which the host waited for the reader; a GPU may have been busy meanwhile
    memory_gb: float  # most that was held: of the GPU in these steps, or of the process so far

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds

    @property
    def wait_share(self) -> float:
        """Of the time, from 0 to 1."""
        return self.waited_s / self.seconds


def run_steps(trainee: Trainee, samples: Samples, batch: int, seconds: float) -> Run:
    """Steps of `batch` images of `samples` for `seconds`, two at least, after some that warm up."""
    device, count = trainee.device, len(samples)
    group = [i % count for i in range(batch)]
    with closed(samples.batches(repeat(group))) as stream:
        for _ in range(WARMUPS):
            trainee.step(next(stream), samples.grid)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        began_s, waited_s, steps = now_s(device), samples.waited_s, 0
        while steps < 2 or time.perf_counter() - began_s < seconds:
            trainee.step(next(stream), samples.grid)
            steps += 1
        return Run(steps * batch, now_s(device) - began_s, samples.waited_s - waited_s, memory_gb(device))
