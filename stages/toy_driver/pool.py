"""Training data of the small driver: images drawn from scenes that share no seed with the data set's own (`Pool`), and
its front images as tokens of the frozen tower, its plans as text (`Dataset`).
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.qwen import Model, Tokenizer, token_grid
from stages.backbone.tokens import foreground_share
from stages.backbone.vision import FastTower
from stages.core.io import MANIFEST, atomic_write, read_manifest, write_manifest
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
class Job:
    """One scene of the pool."""

    seed: int
    frames: int  # CAM_FRONT images; as many side images / 3 come along
    drawn_px: tuple[int, int]
    size_px: tuple[int, int]

    @property
    def images(self) -> int:
        """How many images the scene gives."""
        return self.frames + max(1, self.frames // 3)


@dataclass(frozen=True)
class Pool:
    """M images, scene after scene; memory-mapped."""

    images: NDArray[np.uint8]  # (M, H, W, 3)
    shares: NDArray[np.float16]  # (M, N, CLASSES) of each token's pixels
    speed_mps: NDArray[np.float32]  # (M,)
    future_m: NDArray[np.float32]  # (M, T, 2) ego frame
    event: NDArray[np.int64]  # (M,) index into EVENTS, or NO_PLAN


NAMES = tuple(field.name for field in fields(Pool))


def draw_scene(job: Job) -> Pool:
    """The images of one scene: front frames at random key frames, and a few of the other cameras."""
    # Here, because a bare GPU machine has no OpenCV to draw with and may still import the recipe.
    from stages.scenes.world.drawing import draw
    from stages.scenes.world.scenario import simulate

    scenario = simulate(job.seed, SCENE_STEPS)
    random = np.random.default_rng(job.seed)
    front = sorted(random.choice(SCENE_STEPS, job.frames, replace=False).tolist())
    side = random.choice(SCENE_STEPS, job.images - job.frames, replace=False).tolist()
    shots = [(step, "CAM_FRONT") for step in front] + [(step, CAMERAS[1 + int(random.integers(5))]) for step in side]
    drawn = [draw(scenario, step, camera, job.drawn_px) for step, camera in shots]
    return Pool(
        np.stack([resize(image, job.size_px, "stretch") for image, _ in drawn]),
        np.stack([class_shares(classes, token_grid(job.size_px)) for _, classes in drawn]),
        np.array([scenario.speed_mps[step] for step, _ in shots], np.float32),
        np.stack([scenario.future_ego_m(step) for step, _ in shots]).astype(np.float32),
        np.array([EVENTS.index(scenario.event(s)) if camera == "CAM_FRONT" else NO_PLAN for s, camera in shots]),
    )


def class_shares(classes: UInt8[np.ndarray, "H W"], grid: tuple[int, int]) -> Float16[np.ndarray, "N C"]:
    """How much of each token's pixels each of the CLASSES takes up."""
    each = torch.from_numpy(classes)[None] == torch.arange(CLASSES, dtype=torch.uint8)[:, None, None]
    return foreground_share(each, grid).T.half().numpy()


def _draw_into_file(job: Job, folder: Path) -> None:
    """Draw a scene, unless its file is there from a run that was stopped."""
    path = folder / "scenes" / f"{job.seed}.npz"
    if not path.is_file():
        torch.set_num_threads(1)  # the scenes are spread over processes already
        scene = draw_scene(job)
        with atomic_write(path) as file:
            np.savez(file, **{name: getattr(scene, name) for name in NAMES})


def draw_pool(folder: Path, jobs: Sequence[Job], workers: int) -> Pool:
    """All scenes' images under `folder`; what a stopped run left there, whole or scene by scene, is used again."""
    if not (folder / MANIFEST).is_file():
        for _ in progress(map_shards(partial(_draw_into_file, folder=folder), jobs, workers), len(jobs), "draw pool"):
            pass
        _join(folder, jobs)
        write_manifest(folder, [folder / f"{name}.npy" for name in NAMES], {"scenes": len(jobs)})
        shutil.rmtree(folder / "scenes")
    read_manifest(folder, "dvc repro train_driver")
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES))


def _join(folder: Path, jobs: Sequence[Job]) -> None:
    """One array file per field, filled scene by scene: the pool is larger than the memory that may be used."""
    rows, start, whole = sum(job.images for job in jobs), 0, {}
    for job in progress(jobs, len(jobs), "join pool"):
        with np.load(folder / "scenes" / f"{job.seed}.npz") as scene:
            for name in NAMES:
                part = scene[name]
                if not start:
                    shape = (rows, *part.shape[1:])
                    whole[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", part.dtype, shape)
                whole[name][start : start + job.images] = part
        start += job.images
    for array in whole.values():
        array.flush()


def split_by_scene(rows: int, scenes: int, held_out_scenes: int) -> tuple[Tensor, Tensor]:
    """Of `rows` that lie scene after scene: those to learn from, and those of the last `held_out_scenes` scenes."""
    border = (scenes - held_out_scenes) * (rows // scenes)
    return torch.arange(border), torch.arange(border, rows)


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
    """Encode the front images of a pool of `scenes` scenes once (kept in `cache`), and its plans as text."""
    rows, tower = np.flatnonzero(pool.event != NO_PLAN), FastTower(model)
    file = cache / f"features-{tower.fingerprint}.npy"
    if not file.is_file():
        starts = range(0, len(rows), ENCODE_BATCH)
        parts = []
        for start in progress(starts, len(starts), "encode pool"):
            images = torch.from_numpy(pool.images[rows[start : start + ENCODE_BATCH]]).permute(0, 3, 1, 2)
            parts.append(tower.encode(images).half().numpy())
        with atomic_write(file) as out:
            np.save(out, np.concatenate(parts))
    speeds, futures = pool.speed_mps[rows], pool.future_m[rows]
    before = torch.tensor([encode(tokenizer, before_text())] * len(rows))
    after = torch.tensor([encode(tokenizer, VISION_END + prompt_text(float(v))) for v in speeds])
    end = word_id(tokenizer, END)
    return Dataset(
        features=torch.from_numpy(np.load(file)),
        grid=tower.grid((pool.images.shape[2], pool.images.shape[1])),
        prompts=Prompt(before, after),
        answers=torch.tensor([encode(tokenizer, answer_text(f.astype(np.float64))) + [end] for f in futures]),
        future_m=torch.from_numpy(np.array(futures)),
        speed_mps=torch.from_numpy(np.array(speeds)),
        event=torch.from_numpy(np.array(pool.event[rows])),
        scene=torch.from_numpy(rows // (len(pool.event) // scenes)),
        shares=pool.shares[rows],
    )
