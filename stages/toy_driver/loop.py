"""Training loop that survives a kill: its state is saved every 30 s, and the next run resumes from it.

Every random draw of a step comes from (seed, step), so that a resumed run ends with the same weights, bit for bit.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from stages.core.errors import DataError
from stages.core.io import atomic_write
from stages.core.progress import progress

log = logging.getLogger(__name__)
Step = Callable[[int, Generator], dict[str, Tensor]]  # step, its randomness -> named losses, "loss" is minimised
Record = Callable[[dict[str, float], int], None]
SAVE_EVERY_S = 30.0


@dataclass(frozen=True)
class Schedule:
    """Steps and optimizer settings of a phase."""

    steps: int
    lr: float
    seed: int
    warmup: int = 50
    weight_decay: float = 0.05
    clip_norm: float = 1.0


def fit(what: str, module: nn.Module, step: Step, schedule: Schedule, state_file: Path, record: Record) -> None:
    """Train `module` in place with AdamW under a cosine; `record` gets the losses every 20 steps."""
    optimizer = torch.optim.AdamW(
        module.parameters(), schedule.lr, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    start = _resume(what, module, optimizer, state_file)
    saved = time.monotonic()
    for i in progress(range(start, schedule.steps), schedule.steps, what, start):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(i, schedule)
        losses = step(i, Generator().manual_seed(schedule.seed * 1_000_003 + i))
        _check_finite(what, i, losses["loss"])
        optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(module.parameters(), schedule.clip_norm)
        optimizer.step()
        if i % 20 == 0 or i + 1 == schedule.steps:
            record({f"{what}/{name}": float(value.detach()) for name, value in losses.items()}, i)
        if time.monotonic() - saved > SAVE_EVERY_S or i + 1 == schedule.steps:
            _save(module, optimizer, i + 1, state_file)
            saved = time.monotonic()


def learning_rate(step: int, schedule: Schedule) -> float:
    """Return the rate at a step: linear warm-up, then a cosine down to a fiftieth."""
    if step < schedule.warmup:
        return schedule.lr * (step + 1) / schedule.warmup
    done = torch.tensor((step - schedule.warmup) / max(1, schedule.steps - schedule.warmup))
    return schedule.lr * float(0.02 + 0.98 * 0.5 * (1 + torch.cos(torch.pi * done)))


def _save(module: nn.Module, optimizer: torch.optim.Optimizer, step: int, state_file: Path) -> None:
    with atomic_write(state_file) as file:
        torch.save({"step": step, "module": module.state_dict(), "optimizer": optimizer.state_dict()}, file)


def _resume(what: str, module: nn.Module, optimizer: torch.optim.Optimizer, state_file: Path) -> int:
    if not state_file.is_file():
        log.info("%s: fresh (no state in %s)", what, state_file)
        return 0
    state = torch.load(state_file, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("%s: resumed at step %d from %s", what, state["step"], state_file)
    return int(state["step"])


def _check_finite(what: str, step: int, loss: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise DataError(
            expected=f"a finite loss in {what}",
            got=f"{float(loss.detach())} at step {step}",
            fix="lower the learning rate",
        )
