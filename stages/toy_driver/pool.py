"""Training data of the small driver: images drawn from scenes that share no seed with the data set's own (`Pool`), and
its front images as tokens of the frozen tower, its plans as text (`Dataset`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.qwen import Model, Tokenizer, token_grid
from stages.backbone.tokens import foreground_share
from stages.backbone.vision import FastTower
from stages.core.io import read_json, write_json
from stages.core.progress import progress
from stages.core.shards import map_shards
from stages.scenes.base import CAMERAS
from stages.scenes.images import resize
from stages.vla.prefill import Prompt
from stages.vla.toy import END, VISION_END, answer_text, before_text, encode, prompt_text, word_id

EVENTS = ("free", "lead", "red", "green", "pedestrian", "obstacle_right", "obstacle_left", "curve")
CLASSES = 6  # of a pixel: background, then stages.masks.base.CLASSES
NO_PLAN = -1  # event of an image of another camera, which teaches the tower to see but has no plan
SCENE_STEPS = 20
ENCODE_BATCH = 32


@dataclass(frozen=True)
class Pool:
    """M images, scene after scene; memory-mapped."""

    images: NDArray[np.uint8]  # (M, H, W, 3)
    shares: NDArray[np.float16]  # (M, N, CLASSES) of each token's pixels
    speed_mps: NDArray[np.float32]  # (M,)
    future_m: NDArray[np.float32]  # (M, T, 2) ego frame
    event: NDArray[np.int64]  # (M,) index into EVENTS, or NO_PLAN


NAMES = tuple(field.name for field in fields(Pool))


def draw_scene(seed: int, *, frames: int, drawn_px: tuple[int, int], size_px: tuple[int, int]) -> Pool:
    """The images of one scene: `frames` of CAM_FRONT at random key frames, and a third as many of other cameras."""
    # Here, because a bare GPU machine has no OpenCV to draw with and may still import the recipe.
    from stages.scenes.world.drawing import draw
    from stages.scenes.world.scenario import simulate

    torch.set_num_threads(1)  # the scenes are spread over processes already
    scenario = simulate(seed, SCENE_STEPS)
    random = np.random.default_rng(seed)
    front = sorted(random.choice(SCENE_STEPS, frames, replace=False).tolist())
    side = random.choice(SCENE_STEPS, max(1, frames // 3), replace=False).tolist()
    shots = [(step, "CAM_FRONT") for step in front] + [(step, CAMERAS[1 + int(random.integers(5))]) for step in side]
    drawn = [draw(scenario, step, camera, drawn_px) for step, camera in shots]
    return Pool(
        np.stack([resize(image, size_px, "stretch") for image, _ in drawn]),
        np.stack([class_shares(classes, token_grid(size_px)) for _, classes in drawn]),
        np.array([scenario.speed_mps[step] for step, _ in shots], np.float32),
        np.stack([scenario.future_ego_m(step) for step, _ in shots]).astype(np.float32),
        np.array([EVENTS.index(scenario.event(s)) if camera == "CAM_FRONT" else NO_PLAN for s, camera in shots]),
    )


def class_shares(classes: UInt8[np.ndarray, "H W"], grid: tuple[int, int]) -> Float16[np.ndarray, "N C"]:
    """How much of each token's pixels each of the CLASSES takes up."""
    each = torch.from_numpy(classes)[None] == torch.arange(CLASSES, dtype=torch.uint8)[:, None, None]
    return foreground_share(each, grid).T.half().numpy()


def draw_pool(folder: Path, draw: Callable[[int], Pool], seeds: Sequence[int], workers: int) -> Pool:
    """What `draw` gives for all the seeds, in one array file per field: larger than the memory that may be used.

    A stopped run goes on after the scenes that it has written. Every scene has the same number of images.
    """
    written = folder / "scenes.json"
    done = read_json(written, "dvc repro train_driver") if written.is_file() else 0
    folder.mkdir(parents=True, exist_ok=True)
    scenes = map_shards(draw, seeds[done:], workers)
    for i, scene in enumerate(progress(scenes, len(seeds), "draw pool", done), done):
        for name in NAMES:
            part = getattr(scene, name)
            shape = (len(seeds) * len(part), *part.shape[1:])
            whole = np.lib.format.open_memmap(folder / f"{name}.npy", "r+" if i else "w+", part.dtype, shape)
            whole[i * len(part) : (i + 1) * len(part)] = part
            whole.flush()
        write_json(written, i + 1)
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES))


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


def encode_pool(model: Model, tokenizer: Tokenizer, pool: Pool, scenes: int) -> Dataset:
    """Encode the front images of a pool of `scenes` scenes, with the tower frozen for good, and its plans as text."""
    rows, tower = np.flatnonzero(pool.event != NO_PLAN), FastTower(model)
    features = []
    for start in progress(range(0, len(rows), ENCODE_BATCH), -(-len(rows) // ENCODE_BATCH), "encode pool"):
        images = torch.from_numpy(pool.images[rows[start : start + ENCODE_BATCH]]).permute(0, 3, 1, 2)
        features.append(tower.encode(images).half())
    speeds, futures = pool.speed_mps[rows], pool.future_m[rows]
    before = torch.tensor([encode(tokenizer, before_text())] * len(rows))
    after = torch.tensor([encode(tokenizer, VISION_END + prompt_text(float(v))) for v in speeds])
    end = word_id(tokenizer, END)
    return Dataset(
        features=torch.cat(features),
        grid=tower.grid((pool.images.shape[2], pool.images.shape[1])),
        prompts=Prompt(before, after),
        answers=torch.tensor([encode(tokenizer, answer_text(f.astype(np.float64))) + [end] for f in futures]),
        future_m=torch.from_numpy(np.array(futures)),
        speed_mps=torch.from_numpy(np.array(speeds)),
        event=torch.from_numpy(np.array(pool.event[rows])),
        scene=torch.from_numpy(rows // (len(pool.event) // scenes)),
        shares=pool.shares[rows],
    )
