"""OmniDrive's bird's-eye raster: 1000 x 1000 cells of 0.1 m around the ego. Pure integer and float arithmetic.

Column = x forward, row = y left; a cell is written (column, row). The official constants are float32 tensors, so a cell
is 0.10000000149 m and the first one lies at -49.9500008 m: with exact ones, 0.5 m would fall into the next cell.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

CELLS = 1000  # a side
CELL_M = np.float32(0.1)
FIRST_CENTER_M = np.float32(-49.95)
ORIGIN_CELL = FIRST_CENTER_M / CELL_M  # minus the cell coordinate of the ego: -499.5


def box_cells(
    centers_m: Float[np.ndarray, "*any 2"], yaws_rad: Float[np.ndarray, "*any"], sizes_lw_m: Float[np.ndarray, "*any 2"]
) -> Int[np.ndarray, "*any 4 2"]:
    """Corner cells of boxes in the order of a walk around them; the length lies along the yaw."""
    along = np.stack([np.cos(yaws_rad), np.sin(yaws_rad)], axis=-1) * sizes_lw_m[..., :1] / 2
    aside = np.stack([-np.sin(yaws_rad), np.cos(yaws_rad)], axis=-1) * sizes_lw_m[..., 1:] / 2
    turns = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    corners_m = np.stack([centers_m + a * along + b * aside for a, b in turns], axis=-2)
    return np.round((corners_m - FIRST_CENTER_M + CELL_M / np.float32(2)) / CELL_M).astype(np.int64)


def covers(corners: Int[np.ndarray, "4 2"], cells: Int[np.ndarray, "M 2"]) -> Bool[np.ndarray, " M"]:
    """Which cells `cv2.fillPoly` sets for a convex quadrilateral: those inside it and those on its drawn edges.

    Equal to OpenCV 4.11 cell by cell while the box is inside the raster (tests/planning/test_planning_geometry.py).
    Of a box across the border, 50 m away, this is the part inside; OpenCV cuts its edges first and rounds the pieces,
    so that cells along them differ. Of 11,250 egos set beside such a box, 50 hit it in one way and not in the other.
    """
    edges = np.roll(corners, -1, axis=0) - corners
    boxed = ((cells >= corners.min(axis=0)) & (cells <= corners.max(axis=0))).all(axis=1)
    sides = _cross(edges, cells[:, None] - corners)
    return (boxed & ((sides >= 0).all(axis=1) | (sides <= 0).all(axis=1))) | _on_edges(corners, edges, cells)


def _on_edges(
    corners: Int[np.ndarray, "4 2"], edges: Int[np.ndarray, "4 2"], cells: Int[np.ndarray, "M 2"]
) -> Bool[np.ndarray, " M"]:
    """Bresenham's line from the end with the smaller column: half a cell is rounded towards that end."""
    backward = edges[:, :1] < 0
    start, edges = np.where(backward, corners + edges, corners), np.where(backward, -edges, edges)
    offsets = cells[:, None] - start
    down = np.where(edges[:, 1] < 0, -1, 1)
    flat = edges[:, 0] >= np.abs(edges[:, 1])
    walked = np.where(flat, offsets[..., 0], down * offsets[..., 1])
    length = np.abs(edges).max(axis=1)
    twice_error = 2 * np.where(flat, down, -down) * _cross(edges, offsets)
    return ((walked >= 0) & (walked <= length) & (-length <= twice_error) & (twice_error < length)).any(axis=1)


def _cross(a: Int[np.ndarray, "*any 2"], b: Int[np.ndarray, "*more 2"]) -> Int[np.ndarray, "*most"]:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def touches(corners: Int[np.ndarray, "4 2"], occupied: Bool[np.ndarray, "rows columns"]) -> bool:
    """Whether `cv2.fillPoly` of a convex quadrilateral would set an occupied cell; beyond the raster nothing is."""
    low, high = (np.clip(ends, 0, occupied.shape[::-1]) for ends in (corners.min(axis=0), corners.max(axis=0) + 1))
    rows, columns = np.nonzero(occupied[low[1] : high[1], low[0] : high[0]])
    return bool(covers(corners, np.stack([columns, rows], axis=1) + low).any())
