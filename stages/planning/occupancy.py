"""What UniAD, ST-P3 and VAD share: rasters of 200 x 200 cells of 0.5 m, and the ego on them, which never turns.

A cell is written (row, column). The three differ in where rows and columns count from, which their function `cells`
says, and in what stands on the raster.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from stages.planning.base import FARTHEST_M, Agents, Steps, Track, Truth, distances_m
from stages.planning.geometry import fill, later_boxes, nearest_cells

CELLS = 200  # a side
CELL_M = np.float32(0.5)
FIRST_CENTER_M = np.float32(-49.75)
# Cells of a 4.084 x 1.85 m box 0.5 m ahead of the lidar: skimage.draw.polygon fills rows 97 to 104, columns 98 to 101.
FOOTPRINT = np.stack(np.meshgrid(np.arange(97, 105), np.arange(98, 102), indexing="ij"), axis=-1).reshape(-1, 2)
# Of a path (6, 2) in float32, ego axes: the footprint's cells (6, 32, 2), not yet whole, and the one under the ego
EgoCells = Callable[[NDArray[np.float32]], tuple[NDArray[np.floating], NDArray[np.int64]]]


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share."""

    future_m: Float[np.ndarray, "6 2"]  # recorded, ego axes; 0 where there is none
    valid: Bool[np.ndarray, " 6"]
    occupied: Bool[np.ndarray, "6 200 200"]
    recorded_hits: Bool[np.ndarray, " 6"]  # where the recorded drive's own footprint is on an occupied cell


def with_raster(truth: Truth, occupied: Bool[np.ndarray, "6 200 200"], cells: EgoCells) -> Prepared:
    """Return the inputs with rasters already drawn."""
    future_m = official(np.nan_to_num(truth.future_m))
    return Prepared(future_m, truth.valid, occupied, box_hits(cells(future_m)[0], occupied))


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared, cells: EgoCells) -> Steps:
    """Return the values that the official codes add up over all samples; L2 is 0 where no future is recorded."""
    path_m, new = official(plan_ego_m), ~prepared.recorded_hits
    box, center = cells(path_m)
    return Steps(
        l2_m=distances_m(path_m, prepared.future_m) * prepared.valid,
        box_hits=box_hits(box, prepared.occupied) & new,
        center_hits=center_hits(center, prepared.occupied) & new,
    )


def draw(
    agents: Agents, track: Track, here: Bool[np.ndarray, "A 6"], sideways: int = 1
) -> Bool[np.ndarray, "6 200 200"]:
    """Rasters of the agents `here` at each step, in cells; a `sideways` of -1 counts rows from the other end."""
    corners_m, steps = later_boxes(agents, track, here)
    return fill(nearest_cells(corners_m * np.array([1, sideways]), FIRST_CENTER_M, CELL_M), steps, CELLS)


def official(path_m: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2"]:
    """The path as the official code takes it: float32, no farther than a cell can be counted."""
    return np.clip(path_m, -FARTHEST_M, FARTHEST_M).astype(np.float32)


def ego_cells(path_m: Float[np.ndarray, "T 2"]) -> tuple[Float[np.ndarray, "T 32 2"], Int[np.ndarray, "T 2"]]:
    """Row and column of the footprint's cells, not yet whole, and of the one under the ego; `path_m` is row, column."""
    return (path_m / CELL_M)[:, None] + FOOTPRINT, ((path_m - FIRST_CENTER_M) / CELL_M).astype(np.int64)


def box_hits(cells: Float[np.ndarray, "T 32 2"], occupied: Bool[np.ndarray, "T 200 200"]) -> Bool[np.ndarray, " T"]:
    """Return for each step whether a cell is occupied. Cut towards 0; beyond the raster they stick to its border."""
    whole = np.clip(cells.astype(np.int64), 0, CELLS - 1)
    return occupied[np.arange(len(whole))[:, None], whole[..., 0], whole[..., 1]].any(axis=1)


def center_hits(cells: Int[np.ndarray, "T 2"], occupied: Bool[np.ndarray, "T side side"]) -> Bool[np.ndarray, " T"]:
    """Return for each step whether the one cell is occupied; beyond the raster nothing is."""
    side = occupied.shape[1]
    inside = ((cells >= 0) & (cells < side)).all(axis=1)
    row, column = np.clip(cells, 0, side - 1).T
    return inside & occupied[np.arange(len(cells)), row, column]
