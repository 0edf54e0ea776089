"""Training of the small driver: both phases in order, each by a loop that survives a kill.

The state is saved every 30 s, and the next run resumes from it. Every random draw of a step comes from (seed, step), so
that a resumed run ends with the same weights, bit for bit.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Generator, Tensor, nn

from stages.backbone.patches import token_grid
from stages.backbone.qwen import Model, Tokenizer
from stages.core.errors import DataError
from stages.core.io import atomic_write
from stages.core.progress import progress
from stages.pruning.base import Kept
from stages.toy_driver.dataset import Dataset
from stages.toy_driver.language_phase import LanguageTraining, soft_labels, subset, view_of
from stages.toy_driver.pool import Pool
from stages.toy_driver.tower_phase import TowerPretraining, plan_target, tower_step
from stages.vla.prefill import Prompt
from stages.vla.toy import PAD, VOCABULARY, numeric_ids, word_id

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


@dataclass(frozen=True)
class Run:
    """Settings of both phases: folder of the state, recorder of the losses, samples per step."""

    folder: Path
    record: Record
    batch_size: int


def train_tower(model: Model, pool: Pool, candidates: Int[Tensor, " M"], schedule: Schedule, run: Run) -> None:
    """Train phase 1, in place on the model's own vision tower, which is frozen afterwards."""
    h, w = token_grid((pool.images.shape[2], pool.images.shape[1]))
    training = TowerPretraining(model.model.visual, h * w, model.config.vision_config.out_hidden_size).train()
    step = partial(tower_step, training, pool, (candidates, run.batch_size))
    fit("tower", training, step, schedule, run.folder / "tower.pt", run.record)
    model.model.visual.eval().requires_grad_(False)


def new_language_training(model: Model, tokenizer: Tokenizer) -> LanguageTraining:
    """Return the model with its regression head and label tables."""
    ids = numeric_ids(tokenizer)
    # "-0" lies between -1 and 0 and must not be taken for a neighbour of the first whole number.
    whole, decimals = torch.tensor(ids[1:-10]), torch.tensor(ids[-10:])
    labels = soft_labels(whole, decimals, len(VOCABULARY))
    return LanguageTraining(model, labels, torch.tensor(ids), word_id(tokenizer, PAD))


def train_language(
    training: LanguageTraining,
    dataset: Dataset,
    candidates: Int[Tensor, " M"],
    schedules: dict[str, Schedule],
    run: Run,
) -> None:
    """Train phase 2: regression, then answers; random token subsets from the first step on."""
    training.train()
    for name in ("regression", "answer"):
        step = partial(_language_step, name, training, dataset, (candidates, run.batch_size))
        fit(name, training, step, schedules[name], run.folder / f"{name}.pt", run.record)
    training.eval()


def _language_step(
    phase: str,
    training: LanguageTraining,
    dataset: Dataset,
    rows: tuple[Tensor, int],
    step: int,
    generator: Generator,
) -> dict[str, Tensor]:
    candidates, size = rows
    choice = candidates[torch.randint(len(candidates), (size,), generator=generator)]
    prompt = Prompt(dataset.prompts.before[choice], dataset.prompts.after[choice])
    view = view_of(dataset.features[choice].float(), dataset.grid, prompt.before.shape[1])
    kept = Kept(subset(dataset.grid, size, generator))
    target = plan_target(dataset.future_m[choice], dataset.speed_mps[choice])
    if phase == "regression":
        return training.regression_losses(view, kept, prompt, target)
    return training.answer_losses(view, kept, prompt, (dataset.answers[choice], target), generator)
