"""The bird's-eye raster of OmniDrive and BEV-Planner: 1000 x 1000 cells of 0.1 m around the ego, and the ego on it.

Column = x forward, row = y left; a cell is written (column, row). The official constants are float32 tensors, so a cell
is 0.10000000149 m and the first one lies at -49.9500008 m: with exact ones, 0.5 m would fall into the next cell.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.planning.polygons import Quads, covers

CELLS = 1000  # a side
CELL_M = np.float32(0.1)
FIRST_CENTER_M = np.float32(-49.95)
ORIGIN_CELL = FIRST_CENTER_M / CELL_M  # minus the cell coordinate of the ego: -499.5
REACH = 39  # cells from the trajectory point to the farthest one of the ego, however it is turned
LEAST_STEP_M = 1.0  # a shorter step does not turn the footprint
# Cells of the unturned 4.084 x 1.85 m ego 1.485793 m ahead of its IMU: skimage.draw.polygon fills columns 494 to 534
# and rows 491 to 508.
FOOTPRINT = np.stack(np.meshgrid(np.arange(494, 535), np.arange(491, 509)), axis=-1).reshape(-1, 2) + ORIGIN_CELL


def box_corners(
    centers_m: Float[np.ndarray, "*any 2"], yaws_rad: Float[np.ndarray, "*any"], sizes_lw_m: Float[np.ndarray, "*any 2"]
) -> Float[np.ndarray, "*any 4 2"]:
    """Corners of boxes in the order of a walk around them; the length lies along the yaw."""
    along = np.stack([np.cos(yaws_rad), np.sin(yaws_rad)], axis=-1) * sizes_lw_m[..., :1] / 2
    aside = np.stack([-np.sin(yaws_rad), np.cos(yaws_rad)], axis=-1) * sizes_lw_m[..., 1:] / 2
    turns = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return np.stack([centers_m + a * along + b * aside for a, b in turns], axis=-2)


def box_cells(
    centers_m: Float[np.ndarray, "*any 2"], yaws_rad: Float[np.ndarray, "*any"], sizes_lw_m: Float[np.ndarray, "*any 2"]
) -> Int[np.ndarray, "*any 4 2"]:
    """Corner cells of boxes."""
    corners_m = box_corners(centers_m, yaws_rad, sizes_lw_m)
    return np.round((corners_m - FIRST_CENTER_M + CELL_M / np.float32(2)) / CELL_M).astype(np.int64)


def footprints(path_m: Float[np.ndarray, "T 2"]) -> Int[np.ndarray, "T M 2"]:
    """Cells of the ego at each step, turned into the step's direction; beyond the raster they stick to its border.

    They turn about the trajectory point. The plan's precision is kept: a float64 plan is divided by a float32 cell
    size, and the cell a coordinate falls into depends on it.
    """
    steps_m = np.diff(path_m, axis=0, prepend=np.zeros((1, 2), path_m.dtype))
    yaws = np.arctan2(steps_m[:, 1], steps_m[:, 0])
    yaws[np.sqrt((steps_m**2).sum(axis=1)) < LEAST_STEP_M] = 0  # the current heading, not the last step's
    cos, sin = (turn(yaws.astype(np.float64)).astype(np.float32) for turn in (np.cos, np.sin))
    turns = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)
    turned = np.round(FOOTPRINT @ turns - ORIGIN_CELL)
    return np.clip((path_m / CELL_M)[:, None] + turned, 0, CELLS - 1).astype(np.int64)


def footprint_hits(
    path_m: Float[np.ndarray, "T 2"],
    quads: Quads,
    steps: Int[np.ndarray, " Q"],
    asked: Bool[np.ndarray, " T"] | None = None,
) -> Bool[np.ndarray, " T"]:
    """At which steps the ego's footprint sets a cell of a quadrilateral; i is there at step `steps[i]`, 0 to T - 1.

    False at steps that are not `asked` for.
    """
    hits, at = np.zeros(len(path_m), bool), path_m / CELL_M - ORIGIN_CELL
    low, high = (np.clip(at + reach, 0, CELLS - 1)[steps] for reach in (-REACH, REACH))
    near = ((quads.high >= low) & (quads.low <= high)).all(axis=1)
    if asked is not None:
        near &= asked[steps]
    if near.any():
        cells = footprints(path_m)
        for i in np.flatnonzero(near).tolist():
            hits[steps[i]] = hits[steps[i]] or covers(quads, i, cells[steps[i]]).any()
    return hits


def leaves(quads: Quads, i: int, allowed: Bool[np.ndarray, "rows columns"]) -> bool:
    """Whether `cv2.fillPoly` of quadrilateral i would set a cell that is not allowed; beyond the raster all are."""
    low, high = np.clip(quads.low[i], 0, None), np.clip(quads.high[i] + 1, 0, None)
    window = allowed[low[1] : high[1], low[0] : high[0]]
    if window.all():
        return False
    rows, columns = np.nonzero(~window)
    return bool(covers(quads, i, np.stack([columns, rows], axis=1) + low).any())
