"""Training data of the language model: the pool's front images as tokens of the frozen tower, its plans as text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.qwen import Model, Tokenizer
from stages.backbone.vision import FastTower
from stages.core.io import atomic_write
from stages.core.progress import progress
from stages.toy_driver.pool import Pool
from stages.vla.prefill import Prompt
from stages.vla.toy import END, VISION_END, answer_text, before_text, encode, prompt_text, word_id

ENCODE_BATCH = 32


@dataclass(frozen=True)
class Dataset:
    """A pool as token ids and targets, front images only; features of the frozen tower in fp16."""

    features: Float[Tensor, "M N D"]
    grid: tuple[int, int]
    prompts: Prompt  # M rows
    answers: Int[Tensor, "M S"]
    future_m: Float[Tensor, "M T 2"]
    speed_mps: Float[Tensor, " M"]
    event: Int[Tensor, " M"]
    scene: Int[Tensor, " M"]  # number of the scene in the pool
    shares: NDArray[np.float16]  # (M, N, C) class shares; only the evaluation reads them


def encode_pool(model: Model, tokenizer: Tokenizer, pool: Pool, scenes: int, cache: Path) -> Dataset:
    """Encode the front images of a pool of `scenes` scenes once, and its plans as text."""
    rows = pool.planned()
    tower = FastTower(model)
    features = _features(tower, pool, rows, cache)
    speeds, futures = pool.speed_mps[rows], pool.future_m[rows]
    before = torch.tensor([encode(tokenizer, before_text())] * len(rows))
    after = torch.tensor([encode(tokenizer, VISION_END + prompt_text(float(v))) for v in speeds])
    end = word_id(tokenizer, END)
    answers = torch.tensor([encode(tokenizer, answer_text(f.astype(np.float64))) + [end] for f in futures])
    grid = tower.grid((pool.images.shape[2], pool.images.shape[1]))
    truth = (torch.from_numpy(np.array(futures)), torch.from_numpy(np.array(speeds)))
    event = torch.from_numpy(np.array(pool.event[rows]))
    scene = torch.from_numpy(rows // (len(pool.event) // scenes))
    return Dataset(features, grid, Prompt(before, after), answers, *truth, event, scene, pool.shares[rows])


def _features(tower: FastTower, pool: Pool, rows: NDArray[np.int64], cache: Path) -> Float[Tensor, "M N D"]:
    """Return fp16 tokens of the chosen images, from `cache` after a restart."""
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
