"""Training images of the small driver, drawn from scenes that share no seed with the data set's own."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.patches import token_grid
from stages.backbone.tokens import foreground_share
from stages.core.io import MANIFEST, atomic_write, read_manifest, write_manifest
from stages.core.progress import progress
from stages.core.shards import map_shards
from stages.scenes.base import CAMERAS
from stages.scenes.images import resize

log = logging.getLogger(__name__)
EVENTS = ("free", "lead", "red", "green", "pedestrian", "obstacle_right", "obstacle_left", "curve")
CLASSES = 6  # of a pixel: background, then stages.masks.base.CLASSES
NO_PLAN = -1  # event of an image of another camera, which teaches the tower to see but has no plan
SCENE_STEPS = 20


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

    def planned(self) -> NDArray[np.int64]:
        """Indices of the front images, which have a plan."""
        return np.flatnonzero(self.event != NO_PLAN)


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


@dataclass(frozen=True)
class _Drawing:
    job: Job
    file: Path


def _draw_into_file(drawing: _Drawing) -> None:
    """Draw a scene, unless its file is there from a run that was stopped."""
    if drawing.file.is_file():
        return
    torch.set_num_threads(1)  # the scenes are spread over processes already
    scene = draw_scene(drawing.job)
    with atomic_write(drawing.file) as file:
        np.savez(file, **{name: getattr(scene, name) for name in NAMES})


def draw_pool(folder: Path, jobs: Sequence[Job], workers: int) -> Pool:
    """All scenes' images under `folder`; what a stopped run left there, whole or scene by scene, is used again."""
    if not (folder / MANIFEST).is_file():
        todo = [_Drawing(job, folder / "scenes" / f"{job.seed}.npz") for job in jobs]
        for _ in progress(map_shards(_draw_into_file, todo, workers), len(jobs), "draw pool"):
            pass
        _join([drawing.file for drawing in todo], sum(job.images for job in jobs), folder)
        write_manifest(folder, [folder / f"{name}.npy" for name in NAMES], {"scenes": len(jobs)})
        shutil.rmtree(folder / "scenes")
    read_manifest(folder, "dvc repro train_driver")
    log.info("pool of %d scenes in %s", len(jobs), folder)
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES))


def _join(scenes: Sequence[Path], rows: int, folder: Path) -> None:
    """One array file per field, filled scene by scene: the pool is larger than the memory that may be used."""
    with np.load(scenes[0]) as first:
        whole = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy", "w+", dtype=first[name].dtype, shape=(rows, *first[name].shape[1:])
            )
            for name in NAMES
        }
    start = 0
    for path in progress(scenes, len(scenes), "join pool"):
        with np.load(path) as scene:
            size = len(scene["event"])
            for name in NAMES:
                whole[name][start : start + size] = scene[name]
        start += size
    for array in whole.values():
        array.flush()


def split_by_scene(rows: int, scenes: int, held_out_scenes: int) -> tuple[Tensor, Tensor]:
    """Of `rows` that lie scene after scene: those to learn from, and those of the last `held_out_scenes` scenes."""
    border = (scenes - held_out_scenes) * (rows // scenes)
    return torch.arange(border), torch.arange(border, rows)
