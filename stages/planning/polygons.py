"""Quadrilaterals as OpenCV draws them: `cv2.fillPoly` of whole cells, without drawing.

Measured against OpenCV 4.11 cell by cell, also where a quadrilateral leaves the raster and OpenCV cuts its edges first
(tests/planning/test_planning_polygons.py). A cell is written (column, row).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

SHIFT = 16  # OpenCV follows an edge in fixed point of so many bits


@dataclass(frozen=True)
class Quads:
    """Q convex quadrilaterals of whole cells on a raster, ready to be drawn or asked."""

    low: Int[np.ndarray, "Q 2"]  # bounding box, both ends inclusive
    high: Int[np.ndarray, "Q 2"]
    starts: Int[np.ndarray, "Q 4 2"]  # drawn lines from their left end, cut to the raster
    spans: Int[np.ndarray, "Q 4 2"]  # to their other end
    drawn: Bool[np.ndarray, "Q 4"]  # False where a line misses the raster
    rows: Int[np.ndarray, "Q 4 2"]  # first row of an edge and the one after its last; equal where it is level
    columns: Int[np.ndarray, "Q 4"]  # its column in the first row, fixed point
    slopes: Int[np.ndarray, "Q 4"]  # columns a row, fixed point

    def __len__(self) -> int:
        return len(self.low)


def quads_of(corners: Int[np.ndarray, "Q 4 2"], cells: int) -> Quads:
    """The quadrilaterals with these corners, in the order of a walk around them, on a raster of so many cells a side."""
    ends = np.stack([np.roll(corners, 1, axis=1), corners], axis=2)  # Q 4 2 2: edge, end, column and row
    cut, drawn, outside = ends.copy(), np.ones(ends.shape[:2], bool), ((ends < 0) | (ends >= cells)).any(axis=(2, 3))
    for place in zip(*np.nonzero(outside), strict=True):
        cut[place], drawn[place] = _cut(ends[place], cells)
    exact = cut << SHIFT
    level = cut[..., 0, 1] == cut[..., 1, 1]
    exact[outside & level, :, 1] = ends[outside & level, :, 1] << SHIFT
    run, rise = exact[..., 1, 0] - exact[..., 0, 0], (exact[..., 1, 1] - exact[..., 0, 1]) >> SHIFT
    slopes = np.sign(run) * np.sign(rise) * (np.abs(run) // np.maximum(np.abs(rise), 1))  # rounded to 0, as in C
    rows = np.sort(ends[..., 1], axis=2)
    columns = exact[..., 0, 0] + (rows[..., 0] - (exact[..., 0, 1] >> SHIFT)) * slopes
    left = (cut[..., 1, 0] < cut[..., 0, 0])[..., None]
    starts = np.where(left, cut[..., 1, :], cut[..., 0, :])
    spans = np.where(left, cut[..., 0, :], cut[..., 1, :]) - starts
    return Quads(corners.min(axis=1), corners.max(axis=1), starts, spans, drawn, rows, columns, slopes)


def _cut(ends: Int[np.ndarray, "2 2"], cells: int) -> tuple[Int[np.ndarray, "2 2"], bool]:
    """A line cut to the raster by rows, then by columns, each new end rounded to 0; False where it misses the raster.

    A line that misses it may come back half cut: OpenCV fills along that.
    """
    line = [[int(x) for x in end] for end in ends]
    if any(_same_side(line, axis, cells) for axis in (0, 1)):
        return ends, False
    for axis in (1, 0):
        if _same_side(line, axis, cells):
            return np.array(line), False
        for end in line:
            bound = min(max(end[axis], 0), cells - 1)
            if bound != end[axis]:
                run, rise = line[1][1 - axis] - line[0][1 - axis], line[1][axis] - line[0][axis]
                end[1 - axis] += int(float(bound - end[axis]) * run / rise)
                end[axis] = bound
    return np.array(line), True


def _same_side(line: list[list[int]], axis: int, cells: int) -> bool:
    """Whether both ends lie beyond the same side of the raster."""
    return max(end[axis] for end in line) < 0 or min(end[axis] for end in line) >= cells


def covers(quads: Quads, i: int, cells: Int[np.ndarray, "M 2"]) -> Bool[np.ndarray, " M"]:
    """Which cells of the raster quadrilateral `i` sets: those between its edges and those on its drawn lines."""
    return _between(quads, i, cells) | _on_lines(quads, i, cells)


def _between(quads: Quads, i: int, cells: Int[np.ndarray, "M 2"]) -> Bool[np.ndarray, " M"]:
    down = cells[:, 1:] - quads.rows[i, :, 0]
    crossed = (down >= 0) & (cells[:, 1:] < quads.rows[i, :, 1])  # M 4; a row crosses two edges or none
    columns = quads.columns[i] + down * quads.slopes[i]
    left = np.where(crossed, columns, 2**60).min(axis=1) + (1 << SHIFT) - 1 >> SHIFT
    right = np.where(crossed, columns, -(2**60)).max(axis=1) >> SHIFT
    return (left <= cells[:, 0]) & (cells[:, 0] <= right)


def _on_lines(quads: Quads, i: int, cells: Int[np.ndarray, "M 2"]) -> Bool[np.ndarray, " M"]:
    """Bresenham's line from the left end: half a cell is rounded towards that end."""
    across, along = quads.spans[i].T
    right, down = np.moveaxis(cells[:, None] - quads.starts[i], 2, 0)
    sign = np.where(along < 0, -1, 1)
    flat = across >= np.abs(along)
    length = np.where(flat, across, np.abs(along))
    walked = np.where(flat, right, sign * down)
    twice_error = 2 * np.where(flat, sign, -sign) * (across * down - along * right)
    on = (walked >= 0) & (walked <= length) & (-length <= twice_error) & (twice_error < length)
    on |= (right == 0) & (down == 0)  # all of a line of one cell
    return (on & quads.drawn[i]).any(axis=1)
