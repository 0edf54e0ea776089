"""Both phases of the small driver in order, each resumable, on one pool of drawn images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from stages.backbone.patches import token_grid
from stages.backbone.qwen import Model, Tokenizer, VisionTower
from stages.files import atomic_write
from stages.progress import progress
from stages.pruning.base import Kept, TokenView
from stages.vla.host import Prompt
from stages.vla.recipe.language_phase import LanguageTraining, soft_labels, view_of
from stages.vla.recipe.loop import Record, Schedule, fit
from stages.vla.recipe.pool import Pool
from stages.vla.recipe.subsets import subset
from stages.vla.recipe.tower_phase import TowerPretraining, plan_target, tower_step
from stages.vla.toy_text import (
    END,
    PAD,
    VISION_END,
    VISION_START,
    VOCABULARY,
    answer_text,
    encode,
    numeric_ids,
    prompt_text,
    word_id,
)

ENCODE_BATCH = 32


@dataclass(frozen=True)
class Teacher:
    """A pool as token ids and targets, front images only; features of the frozen tower in fp16."""

    features: Float[Tensor, "M N D"]
    grid: tuple[int, int]
    prompts: Prompt  # M rows
    answers: Int[Tensor, "M S"]
    future_m: Float[Tensor, "M T 2"]
    speed_mps: Float[Tensor, " M"]


@dataclass(frozen=True)
class Run:
    """What both phases share: where state is kept, who is told the losses, how many samples a step takes."""

    folder: Path
    record: Record
    batch_size: int


def train_tower(model: Model, pool: Pool, candidates: Int[Tensor, " M"], schedule: Schedule, run: Run) -> None:
    """Phase 1, in place on the model's own vision tower, which is frozen afterwards."""
    h, w = token_grid((pool.images.shape[2], pool.images.shape[1]))
    training = TowerPretraining(model.model.visual, h * w, model.config.vision_config.out_hidden_size).train()
    step = partial(tower_step, training, pool, (candidates, run.batch_size))
    fit("tower", training, step, schedule, run.folder / "tower.pt", run.record)
    model.model.visual.eval().requires_grad_(False)


def teach(model: Model, tokenizer: Tokenizer, pool: Pool, cache: Path) -> Teacher:
    """Encode the pool's front images once, and its plans as text."""
    rows = pool.planned()
    tower = VisionTower(model)
    features = _features(tower, pool, rows, cache)
    speeds, futures = pool.speed_mps[rows], pool.future_m[rows]
    before = torch.tensor([encode(tokenizer, VISION_START)] * len(rows))
    after = torch.tensor([encode(tokenizer, VISION_END + prompt_text(float(v))) for v in speeds])
    end = word_id(tokenizer, END)
    answers = torch.tensor([encode(tokenizer, answer_text(f.astype(np.float64))) + [end] for f in futures])
    grid = tower.grid((pool.images.shape[2], pool.images.shape[1]))
    truth = (torch.from_numpy(np.array(futures)), torch.from_numpy(np.array(speeds)))
    return Teacher(features, grid, Prompt(before, after), answers, *truth)


def _features(tower: VisionTower, pool: Pool, rows: np.ndarray, cache: Path) -> Float[Tensor, "M N D"]:
    """fp16 tokens of the chosen images; kept in `cache` so that a restart does not encode again."""
    file = cache / f"features-{tower.fingerprint}.npy"
    if not file.is_file():
        starts = range(0, len(rows), ENCODE_BATCH)
        parts = []
        for start in progress(starts, len(starts), "encode pool"):
            images = torch.from_numpy(pool.images[rows[start : start + ENCODE_BATCH]]).permute(0, 3, 1, 2)
            parts.append(tower.encode(images).half().numpy())
        with atomic_write(file) as out:
            np.save(out, np.concatenate(parts))
    return torch.from_numpy(np.load(file))


def new_language_training(model: Model, tokenizer: Tokenizer) -> LanguageTraining:
    """The model with its regression head and label tables."""
    ids = numeric_ids(tokenizer)
    # "-0" lies between -1 and 0 and must not be taken for a neighbour of the first whole number.
    whole, decimals = torch.tensor(ids[1:-10]), torch.tensor(ids[-10:])
    labels = soft_labels(whole, decimals, len(VOCABULARY))
    return LanguageTraining(model, labels, torch.tensor(ids), word_id(tokenizer, PAD))


def train_language(
    training: LanguageTraining,
    teacher: Teacher,
    candidates: Int[Tensor, " M"],
    schedules: dict[str, Schedule],
    run: Run,
) -> None:
    """Phase 2: regression, then answers; random token subsets from the first step on."""
    training.train()
    for name, losses in (("regression", _regression_losses), ("answer", _answer_losses)):
        step = partial(_language_step, losses, training, teacher, (candidates, run.batch_size))
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
    teacher: Teacher,
    rows: tuple[Tensor, int],
    step: int,
    generator: Generator,
) -> dict[str, Tensor]:
    candidates, size = rows
    choice = candidates[torch.randint(len(candidates), (size,), generator=generator)]
    prompt = Prompt(teacher.prompts.before[choice], teacher.prompts.after[choice])
    view = view_of(teacher.features[choice].float(), teacher.grid, prompt.before.shape[1])
    kept = Kept(subset(teacher.grid, size, generator))
    future = (teacher.future_m[choice], teacher.speed_mps[choice])
    return losses(training, _Batch(view, kept, prompt, future, teacher.answers[choice]), generator)


def _regression_losses(training: LanguageTraining, batch: _Batch, generator: Generator) -> dict[str, Tensor]:
    del generator  # nothing is hidden while no answer is given
    return training.regression_losses(batch.view, batch.kept, batch.prompt, plan_target(*batch.future))


def _answer_losses(training: LanguageTraining, batch: _Batch, generator: Generator) -> dict[str, Tensor]:
    truth = (batch.answers, plan_target(*batch.future))
    return training.answer_losses(batch.view, batch.kept, batch.prompt, truth, generator)
