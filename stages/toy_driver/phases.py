"""Both phases of the small driver in order, each resumable, on one pool of drawn images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from stages.backbone.patches import token_grid
from stages.backbone.qwen import Model, Tokenizer
from stages.pruning.base import Kept, TokenView
from stages.toy_driver.dataset import Dataset
from stages.toy_driver.language_phase import LanguageTraining, soft_labels, subset, view_of
from stages.toy_driver.loop import Record, Schedule, fit
from stages.toy_driver.pool import Pool
from stages.toy_driver.tower_phase import TowerPretraining, plan_target, tower_step
from stages.vla.prefill import Prompt
from stages.vla.toy import PAD, VOCABULARY, numeric_ids, word_id


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
    for name, losses in (("regression", _regression_losses), ("answer", _answer_losses)):
        step = partial(_language_step, losses, training, dataset, (candidates, run.batch_size))
        fit(name, training, step, schedules[name], run.folder / f"{name}.pt", run.record)
    training.eval()


@dataclass(frozen=True)
class _Batch:
    view: TokenView
    kept: Kept
    prompt: Prompt
    future: tuple[Tensor, Tensor]  # waypoints (B, T, 2) and speeds (B,)
    answers: Tensor  # (B, S)


Losses = Callable[[LanguageTraining, _Batch, Generator], dict[str, Tensor]]


def _language_step(
    losses: Losses,
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
    future = (dataset.future_m[choice], dataset.speed_mps[choice])
    return losses(training, _Batch(view, kept, prompt, future, dataset.answers[choice]), generator)


def _regression_losses(training: LanguageTraining, batch: _Batch, generator: Generator) -> dict[str, Tensor]:
    del generator  # nothing is hidden while no answer is given
    return training.regression_losses(batch.view, batch.kept, batch.prompt, plan_target(*batch.future))


def _answer_losses(training: LanguageTraining, batch: _Batch, generator: Generator) -> dict[str, Tensor]:
    truth = (batch.answers, plan_target(*batch.future))
    return training.answer_losses(batch.view, batch.kept, batch.prompt, truth, generator)
