"""Truths and plans of nuScenes' val split in number: 150 scenes, 6,019 key frames, 30 objects each, on winding roads.

Drawn, not recorded: every key frame stands on a road of its own, which crosses others; plans stray from what was driven
the more the higher the prune ratio, so that some leave the road and some touch a car.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import plain_truth
from numpy.typing import NDArray
from stages.planning.truth_store import Known, publish, write_scene

from stages.planning.base import KeyFrame, Truth
from stages.vla.base import Plan
from stages.vla.plans import plans_path, write_plans

LENGTHS = [41 if i < 19 else 40 for i in range(150)]  # key frames a scene; 6,019 in all
OBJECTS, STEP_S = 30, 0.5
TOKENS = 3249  # of the paper's 1596 x 1596 px
CATEGORIES = ("vehicle.car", "vehicle.truck", "human.pedestrian.adult", "movable_object.barrier", "vehicle.bicycle")
SIZES_LW_M = ((4.6, 1.9), (7.0, 2.5), (0.7, 0.7), (0.5, 2.0), (1.8, 0.6))


def write_truths(folder: Path, lengths: Sequence[int] = LENGTHS) -> None:
    """The whole store of split `val`."""
    frames: list[KeyFrame] = []
    for number, length in enumerate(lengths):
        frames += write_scene(folder, f"scene-{number:04d}", [Known(t, None, None) for t in scene(number, length)])
    publish(folder, frames, {"split": "val", "drawn": False})


def scene(number: int, length: int) -> Iterator[Truth]:
    """The key frames of one scene, whose last six have no whole future."""
    draw = np.random.default_rng(number)
    for i in range(length):
        bend, speed_mps = draw.normal(0, 0.01), draw.uniform(0, 12)
        along_m = speed_mps * STEP_S * np.arange(1, 7)
        truth = plain_truth.truth(
            _on_road(along_m, np.zeros(6), bend),
            agents=_agents(draw, bend),
            drivable=_drivable(draw, bend),
            known_steps=min(6, length - 1 - i),
            past_steps=i,
            token=f"{number:04d}{i:028x}",
            scene=f"scene-{number:04d}",
            curbs_m=draw.uniform(-50, 50, (40, 2, 2)),
        )
        yield replace(truth, future_lidar_m=truth.future_lidar_m)


def _on_road(along_m: NDArray[np.floating], aside_m: NDArray[np.floating], bend: float) -> NDArray[np.floating]:
    """Points by their way along a road that bends by `bend` per metre, and to its left."""
    return np.stack([along_m, aside_m + bend * along_m**2 / 2], axis=-1)


def _agents(draw: np.random.Generator, bend: float) -> plain_truth.Agents:
    """Objects beside the ego's lane and further off, standing or driving along the road; one in five is in the way."""
    kinds = draw.integers(len(CATEGORIES), size=OBJECTS)
    lanes_m = np.where(draw.random(OBJECTS) < 0.2, draw.normal(0, 1.5, OBJECTS), draw.uniform(-20, 20, OBJECTS))
    along_m = draw.uniform(-40, 45, OBJECTS)[:, None] + draw.uniform(0, 5, OBJECTS)[:, None] * np.arange(7)
    centers_m = _on_road(along_m, np.repeat(lanes_m[:, None], 7, axis=1), bend)
    gone = draw.random((OBJECTS, 7)) < 0.1
    yaws_rad = np.where(gone, np.nan, np.arctan(bend * along_m) + draw.normal(0, 0.05, (OBJECTS, 1)))
    sizes_lw_m = np.array(SIZES_LW_M)[kinds]
    return plain_truth.agents(
        [CATEGORIES[k] for k in kinds], sizes_lw_m, np.where(gone[..., None], np.nan, centers_m), yaws_rad
    )


def _drivable(draw: np.random.Generator, bend: float) -> NDArray[np.bool_]:
    """The road of the ego, 6 to 14 m wide, and one that crosses it."""
    raster = np.zeros((1000, 1000), np.uint8)
    half_m = draw.uniform(3, 7)
    middle_m = _on_road(np.linspace(-50, 50, 60), np.zeros(60), bend)
    ring_m = np.concatenate([middle_m + [0, half_m], middle_m[::-1] - [0, half_m]])
    crossing_m = draw.uniform(10, 50)
    cv2.fillPoly(raster, [np.round((ring_m + 50) * 10).astype(np.int32)], 1)
    cv2.fillPoly(
        raster,
        [np.round((np.array([[0, -50], [8, -50], [8, 50], [0, 50]]) + [crossing_m, 0] + 50) * 10).astype(np.int32)],
        1,
    )
    return raster.astype(bool)


def write_all_plans(name: str, percents: Sequence[int], truths: Sequence[Truth], seed: int) -> None:
    """Plans of one pruner at each ratio, with the tokens that the paper's driver would keep."""
    draw = np.random.default_rng(seed)
    for percent in percents:
        count = TOKENS * (100 - percent) // 100
        kept = np.sort(draw.permuted(np.tile(np.arange(TOKENS), (64, 1)), axis=1)[:, :count], axis=1)
        strays_m = draw.normal(0, 0.1 + percent / 400, (len(truths), 1, 2)) * np.arange(1, 7)[:, None]
        write_plans(plans_path(name, percent), [
            Plan(t.token, np.nan_to_num(t.future_m) + stray_m, "<PLANNING>", i % 200 > 0, kept[i % 64], count, TOKENS,
                 grid=(57, 57), scores=draw.random(TOKENS, np.float32) if percent == min(percents) else None)
            for i, (t, stray_m) in enumerate(zip(truths, strays_m, strict=True))
        ])  # fmt: skip
