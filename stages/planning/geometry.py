"""Boxes on bird's-eye rasters, and the ego on that of OmniDrive and BEV-Planner: 1000 x 1000 cells of 0.1 m around it.

Column = x forward, row = y left; a cell is written (column, row). The official constants are float32 tensors, so a cell
is 0.10000000149 m and the first one lies at -49.9500008 m: with exact ones, 0.5 m would fall into the next cell.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from stages.planning.base import HORIZON_STEPS, Agents, Track

CELLS = 1000  # a side
CELL_M = np.float32(0.1)
FIRST_CENTER_M = np.float32(-49.95)
ORIGIN_CELL = FIRST_CENTER_M / CELL_M  # minus the cell coordinate of the ego: -499.5
LEAST_STEP_M = 1.0  # a shorter step does not turn the footprint
# Cells of the unturned 4.084 x 1.85 m ego 1.485793 m ahead of its IMU: skimage.draw.polygon fills columns 494 to 534
# and rows 491 to 508.
FOOTPRINT = np.stack(np.meshgrid(np.arange(494, 535), np.arange(491, 509)), axis=-1).reshape(-1, 2) + ORIGIN_CELL
DETECTED_VEHICLES = frozenset(
    f"vehicle.{name}"
    for name in ("car", "truck", "construction", "bus.bendy", "bus.rigid", "trailer", "motorcycle", "bicycle")
)  # of the nuScenes detection task: emergency vehicles are none of its classes


def among(agents: Agents, categories: Iterable[str]) -> Bool[np.ndarray, " A"]:
    """Return which objects are of these categories."""
    known = frozenset(categories)
    return np.array([name in known for name in agents.categories], bool)


def starting(agents: Agents, *prefixes: str) -> Bool[np.ndarray, " A"]:
    """Return which objects have a category that begins so."""
    return np.array([name.startswith(prefixes) for name in agents.categories], bool)


def later_boxes(
    agents: Agents, track: Track, here: Bool[np.ndarray, "A 6"]
) -> tuple[Float[np.ndarray, "Q 4 2"], Int[np.ndarray, " Q"]]:
    """Return corners and step, 0 to 5, of each box that is `here` at a future step."""
    agent, step = np.nonzero(here)
    places = track.centers_m[agent, step + 1], track.yaws_rad[agent, step + 1]
    return box_corners(*places, agents.sizes_lw_m[agent]), step


def box_corners(
    centers_m: Float[np.ndarray, "Q 2"], yaws_rad: Float[np.ndarray, " Q"], sizes_lw_m: Float[np.ndarray, "Q 2"]
) -> Float[np.ndarray, "Q 4 2"]:
    """Return corners of boxes in the order of a walk around them; the length lies along the yaw."""
    along = np.stack([np.cos(yaws_rad), np.sin(yaws_rad)], axis=-1) * sizes_lw_m[:, :1] / 2
    aside = np.stack([-np.sin(yaws_rad), np.cos(yaws_rad)], axis=-1) * sizes_lw_m[:, 1:] / 2
    turns = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return np.stack([centers_m + a * along + b * aside for a, b in turns], axis=1)


def nearest_cells(
    points_m: Float[np.ndarray, "*any 2"], first_m: np.float32 = FIRST_CENTER_M, cell_m: np.float32 = CELL_M
) -> Int[np.ndarray, "*any 2"]:
    """Return the cells of points, rounded as all official codes do but BEV-Planner's."""
    return np.round((points_m - first_m + cell_m / np.float32(2)) / cell_m).astype(np.int64)


def cut_cells(points_m: Float[np.ndarray, "*any 2"]) -> Int[np.ndarray, "*any 2"]:
    """Return the cells of points, cut towards 0."""
    return ((points_m - FIRST_CENTER_M) / CELL_M).astype(np.int64)


def fill(
    quads: Int[np.ndarray, "Q 4 2"], steps: Int[np.ndarray, " Q"], cells: int = CELLS
) -> Bool[np.ndarray, "6 cells cells"]:
    """Return rasters of the six steps, row first, with each quadrilateral of cells on that of its step."""
    rasters = np.zeros((HORIZON_STEPS[-1], cells, cells), np.uint8)
    for quad, step in zip(quads.astype(np.int32), steps.tolist(), strict=True):
        cv2.fillPoly(rasters[step], [quad], 1)
    return rasters.view(bool)


def footprints(path_m: Float[np.ndarray, "T 2"]) -> Int[np.ndarray, "T M 2"]:
    """Return cells of the ego at each step, turned into the step's direction about the trajectory point.

    Beyond the raster they stick to its border. The plan's precision is kept: a float64 plan is divided by a float32
    cell size, and the cell a coordinate falls into depends on it.
    """
    steps_m = np.diff(path_m, axis=0, prepend=np.zeros((1, 2), path_m.dtype))
    yaws = np.arctan2(steps_m[:, 1], steps_m[:, 0])
    yaws[np.sqrt((steps_m**2).sum(axis=1)) < LEAST_STEP_M] = 0  # the current heading, not the last step's
    cos, sin = (turn(yaws.astype(np.float64)).astype(np.float32) for turn in (np.cos, np.sin))
    turns = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)
    turned = np.round(FOOTPRINT @ turns - ORIGIN_CELL)
    return np.clip((path_m / CELL_M)[:, None] + turned, 0, CELLS - 1).astype(np.int64)


def footprint_hits(path_m: Float[np.ndarray, "6 2"], rasters: Bool[np.ndarray, "6 c c"]) -> Bool[np.ndarray, " 6"]:
    """Return at which steps the ego's footprint is on a set cell of the step's raster."""
    cells = footprints(path_m)
    return rasters[np.arange(len(cells))[:, None], cells[..., 1], cells[..., 0]].any(axis=1)


def leaves(quads: Int[np.ndarray, "Q 4 2"], allowed: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, " Q"]:
    """Return for each quadrilateral whether it covers a cell that is not allowed; beyond the raster all are."""
    left = np.zeros(len(quads), bool)
    for i, quad in enumerate(quads):
        low, high = np.clip(quad.min(axis=0), 0, None), np.clip(quad.max(axis=0) + 1, 0, None)
        window = slice(low[1], high[1]), slice(low[0], high[0])
        if not allowed[window].all():
            raster = np.zeros(allowed.shape, np.uint8)
            cv2.fillPoly(raster, [quad.astype(np.int32)], 1)
            left[i] = (raster[window].view(bool) & ~allowed[window]).any()
    return left
