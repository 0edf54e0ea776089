"""A training loop that survives a kill: the state is saved every 30 s, and the next run resumes from it.

Every random draw of a step comes from (seed, step), so that a resumed run ends with the same weights, bit for bit.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Generator, Tensor, nn

from stages.core.errors import DataError
from stages.core.io import atomic_write
from stages.core.progress import progress

log = logging.getLogger(__name__)
Losses = Callable[[Tensor, Generator], dict[str, Tensor]]  # of the rows of a step; "loss" is minimised
SAVE_EVERY_S = 30.0
WEIGHT_DECAY, CLIP_NORM = 0.05, 1.0


@dataclass(frozen=True)
class Schedule:
    """Steps, learning rate and randomness of a phase."""

    steps: int
    lr: float
    seed: int
    warmup: int = 50


@dataclass(frozen=True)
class Run:
    """Settings of both phases: folder of the state, recorder of the losses (every 20 steps), samples per step."""

    folder: Path
    record: Callable[[dict[str, float], int], None]
    batch_size: int


def fit(what: str, module: nn.Module, losses_of: Losses, rows: Int[Tensor, " M"], schedule: Schedule, run: Run) -> None:
    """Train `module` in place on random batches of `rows`, with AdamW under a cosine.

    Raises DataError for a loss that is not finite.
    """
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), schedule.lr, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    start, state_file = 0, run.folder / f"{what}.pt"
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    log.info("%s: from step %d", what, start)
    saved = time.monotonic()
    for i in progress(range(start, schedule.steps), schedule.steps, what, start):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(i, schedule)
        generator = Generator().manual_seed(schedule.seed * 1_000_003 + i)
        losses = losses_of(rows[torch.randint(len(rows), (run.batch_size,), generator=generator)], generator)
        if not bool(torch.isfinite(losses["loss"])):
            got = f"{float(losses['loss'].detach())} at step {i}"
            raise DataError(expected=f"a finite loss in {what}", got=got, fix="lower the learning rate")
        optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
        optimizer.step()
        if i % 20 == 0 or i + 1 == schedule.steps:
            run.record({f"{what}/{name}": float(value.detach()) for name, value in losses.items()}, i)
        if time.monotonic() - saved > SAVE_EVERY_S or i + 1 == schedule.steps:
            states = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
            with atomic_write(state_file) as file:
                torch.save({"step": i + 1, **states}, file)
            saved = time.monotonic()
    module.eval()


def learning_rate(step: int, schedule: Schedule) -> float:
    """Return the rate at a step: linear warm-up, then a cosine down to a fiftieth."""
    if step < schedule.warmup:
        return schedule.lr * (step + 1) / schedule.warmup
    done = torch.tensor((step - schedule.warmup) / max(1, schedule.steps - schedule.warmup))
    return schedule.lr * float(0.02 + 0.98 * 0.5 * (1 + torch.cos(torch.pi * done)))
