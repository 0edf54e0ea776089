"""Training images of the small driver, drawn from scenes that share no seed with the data set's own."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.files import MANIFEST, atomic_write, read_manifest, write_manifest
from stages.progress import progress
from stages.scaling.map_shards import map_shards
from stages.scenes.base import CAMERAS
from stages.scenes.images import resize

log = logging.getLogger(__name__)
EVENTS = ("free", "lead", "red", "green", "pedestrian", "obstacle_right", "obstacle_left", "curve")
NO_PLAN = -1  # event of an image of another camera, which teaches the tower to see but has no plan
SCENE_STEPS = 20


@dataclass(frozen=True)
class Job:
    """One scene of the pool."""

    seed: int
    frames: int  # CAM_FRONT images; as many side images / 3 come along
    drawn_px: tuple[int, int]
    size_px: tuple[int, int]


@dataclass(frozen=True)
class Pool:
    """M images; `images` is memory-mapped."""

    images: NDArray[np.uint8]  # (M, H, W, 3)
    speed_mps: NDArray[np.float32]  # (M,)
    future_m: NDArray[np.float32]  # (M, T, 2) ego frame
    event: NDArray[np.int64]  # (M,) index into EVENTS, or NO_PLAN

    def planned(self) -> NDArray[np.int64]:
        """Indices of the front images, which have a plan."""
        return np.flatnonzero(self.event != NO_PLAN)


def draw_scene(job: Job) -> Pool:
    """The images of one scene: front frames at random key frames, and a few of the other cameras."""
    # Here, because a bare GPU machine has no OpenCV to draw with and may still import the recipe.
    from stages.scenes.world.drawing import draw
    from stages.scenes.world.scenario import simulate

    scenario = simulate(job.seed, SCENE_STEPS)
    random = np.random.default_rng(job.seed)
    front = sorted(random.choice(SCENE_STEPS, job.frames, replace=False).tolist())
    side = random.choice(SCENE_STEPS, max(1, job.frames // 3), replace=False).tolist()
    shots = [(step, "CAM_FRONT") for step in front] + [(step, CAMERAS[1 + int(random.integers(5))]) for step in side]
    images = [resize(draw(scenario, step, camera, job.drawn_px)[0], job.size_px, "stretch") for step, camera in shots]
    return Pool(
        np.stack(images),
        np.array([scenario.speed_mps[step] for step, _ in shots], np.float32),
        np.stack([scenario.future_ego_m(step) for step, _ in shots]).astype(np.float32),
        np.array([EVENTS.index(scenario.event(s)) if camera == "CAM_FRONT" else NO_PLAN for s, camera in shots]),
    )


def draw_pool(folder: Path, jobs: Sequence[Job], workers: int) -> Pool:
    """All scenes' images under `folder`; a complete pool that is there already is used again."""
    if not (folder / MANIFEST).is_file():
        drawn = map_shards(draw_scene, list(jobs), workers)
        parts = list(progress(drawn, len(jobs), "draw pool"))
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Pool.__annotations__}
        for name, array in arrays.items():
            with atomic_write(folder / f"{name}.npy") as file:
                np.save(file, array)
        write_manifest(folder, [folder / f"{name}.npy" for name in arrays], {"scenes": len(jobs)})
    read_manifest(folder, "dvc repro train_driver")
    log.info("pool of %d scenes in %s", len(jobs), folder)
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Pool.__annotations__))


def split_by_scene(rows: int, scenes: int, held_out_scenes: int) -> tuple[Tensor, Tensor]:
    """Of `rows` that lie scene after scene: those to learn from, and those of the last `held_out_scenes` scenes."""
    border = (scenes - held_out_scenes) * (rows // scenes)
    return torch.arange(border), torch.arange(border, rows)
