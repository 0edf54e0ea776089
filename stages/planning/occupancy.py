"""The bird's-eye raster of UniAD, ST-P3 and VAD: 200 x 200 cells of 0.5 m, and the ego on it, which never turns.

A path is written (forward, aside) in metres, a cell (row, column). The three differ in where rows and columns count
from and in what stands on the raster (uniad.py, stp3.py, vad.py), not in what follows here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.planning.base import FARTHEST_M, HORIZON_STEPS, Agents
from stages.planning.geometry import box_corners, fill, quads_of

CELLS = 200  # a side
CELL_M = np.float32(0.5)
FIRST_CENTER_M = np.float32(-49.75)
STEPS = HORIZON_STEPS[-1]
# Cells of a 4.084 x 1.85 m box 0.5 m ahead of the lidar: skimage.draw.polygon fills rows 97 to 104, columns 98 to 101.
FOOTPRINT = np.stack(np.meshgrid(np.arange(97, 105), np.arange(98, 102), indexing="ij"), axis=-1).reshape(-1, 2)
DETECTED_VEHICLES = frozenset(
    f"vehicle.{name}"
    for name in ("car", "truck", "construction", "bus.bendy", "bus.rigid", "trailer", "motorcycle", "bicycle")
)  # of the nuScenes detection task: emergency vehicles are none of its classes


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share."""

    future_m: Float[np.ndarray, "6 2"]  # recorded, ego axes; 0 where there is none
    valid: Bool[np.ndarray, " 6"]
    occupied: Bool[np.ndarray, "6 200 200"]
    recorded_hits: Bool[np.ndarray, " 6"]  # where the recorded drive's own footprint is on an occupied cell


@dataclass(frozen=True)
class Steps:
    """Values of one plan at each step, which the official code adds up over samples."""

    l2_m: Float[np.ndarray, " 6"]
    center_hits: Bool[np.ndarray, " 6"]  # obj_col: the one cell under the ego; the recorded drive's steps left out
    box_hits: Bool[np.ndarray, " 6"]  # obj_box_col: its footprint; the same


def draw(
    agents: Agents,
    here: Bool[np.ndarray, "A 6"],
    centers_m: Float[np.ndarray, "A 7 2"],
    yaws_rad: Float[np.ndarray, "A 7"],
    sideways: int = 1,
) -> Bool[np.ndarray, "6 200 200"]:
    """Rasters of the agents at the future steps at which they are `here`; row = y, column = x of the frame given.

    A `sideways` of -1 counts rows from the other end. Corners are rounded to cells.
    """
    agent, step = np.nonzero(here)
    corners_m = box_corners(centers_m[agent, step + 1], yaws_rad[agent, step + 1], agents.sizes_lw_m[agent])
    corners_m = corners_m * np.array([1, sideways])
    cells = np.round((corners_m - FIRST_CENTER_M + CELL_M / np.float32(2)) / CELL_M).astype(np.int64)
    return fill(quads_of(cells, CELLS), step, STEPS)


def official(path_m: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2"]:
    """The path as the official code takes it: float32, no farther than a cell can be counted."""
    return np.clip(path_m, -FARTHEST_M, FARTHEST_M).astype(np.float32)


def footprint_cells(forward_aside_m: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 32 2"]:
    """Row and column of the ego's cells at each step, not yet whole."""
    return (forward_aside_m / CELL_M)[:, None] + FOOTPRINT


def box_hits(cells: Float[np.ndarray, "T 32 2"], occupied: Bool[np.ndarray, "T 200 200"]) -> Bool[np.ndarray, " T"]:
    """Return for each step whether a cell is occupied. Cut towards 0; beyond the raster they stick to its border."""
    whole = np.clip(cells.astype(np.int64), 0, CELLS - 1)
    return occupied[np.arange(len(whole))[:, None], whole[..., 0], whole[..., 1]].any(axis=1)


def center_hits(cells: Int[np.ndarray, "T 2"], occupied: Bool[np.ndarray, "T 200 200"]) -> Bool[np.ndarray, " T"]:
    """Return for each step whether the one cell is occupied; beyond the raster nothing is."""
    inside = ((cells >= 0) & (cells < CELLS)).all(axis=1)
    row, column = np.clip(cells, 0, CELLS - 1).T
    return inside & occupied[np.arange(len(cells)), row, column]


def distances_m(plan_m: Float[np.ndarray, "T 2"], prepared: Prepared) -> Float[np.ndarray, " T"]:
    """From the recorded positions; 0 where there is none."""
    apart_m = (official(plan_m) - official(prepared.future_m)) * prepared.valid[:, None]
    return np.sqrt((apart_m**2).sum(axis=1)).astype(float)
