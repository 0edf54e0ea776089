"""The bird's-eye raster of OmniDrive and BEV-Planner: 1000 x 1000 cells of 0.1 m around the ego, and the ego on it.

Column = x forward, row = y left; a cell is written (column, row). The official constants are float32 tensors, so a cell
is 0.10000000149 m and the first one lies at -49.9500008 m: with exact ones, 0.5 m would fall into the next cell.

Quadrilaterals and lines set the cells that `cv2.fillPoly` and `cv2.line` of OpenCV 4.11 set, cell by cell, also where
OpenCV cuts an edge at the border of the raster first (tests/planning/test_polygons.py).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CELLS = 1000  # a side
CELL_M = np.float32(0.1)
FIRST_CENTER_M = np.float32(-49.95)
ORIGIN_CELL = FIRST_CENTER_M / CELL_M  # minus the cell coordinate of the ego: -499.5
REACH = 39  # cells from the trajectory point to the farthest one of the ego, however it is turned
LEAST_STEP_M = 1.0  # a shorter step does not turn the footprint
# Cells of the unturned 4.084 x 1.85 m ego 1.485793 m ahead of its IMU: skimage.draw.polygon fills columns 494 to 534
# and rows 491 to 508.
FOOTPRINT = np.stack(np.meshgrid(np.arange(494, 535), np.arange(491, 509)), axis=-1).reshape(-1, 2) + ORIGIN_CELL
SHIFT = 16  # OpenCV follows an edge in fixed point of so many bits


@dataclass(frozen=True)
class Quads:
    """Q convex quadrilaterals of whole cells, ready to be tested or drawn on a raster of `cells` a side."""

    cells: int
    low: Int[np.ndarray, "Q 2"]  # bounding box, both ends inclusive
    high: Int[np.ndarray, "Q 2"]
    starts: Int[np.ndarray, "Q 4 2"]  # left ends of the drawn lines, cut to the raster
    spans: Int[np.ndarray, "Q 4 2"]  # from there to their other ends
    drawn: Bool[np.ndarray, "Q 4"]  # False where a line misses the raster
    rows: Int[np.ndarray, "Q 4 2"]  # first row of an edge and the one after its last; equal where it is level
    columns: Int[np.ndarray, "Q 4"]  # of the edge in its first row, fixed point
    slopes: Int[np.ndarray, "Q 4"]  # columns a row, fixed point

    def __len__(self) -> int:
        return len(self.low)


def quads_of(corners: Int[np.ndarray, "Q 4 2"], cells: int) -> Quads:
    """The quadrilaterals with these corners, in the order of a walk around each, on a raster of `cells` a side."""
    ends = np.stack([np.roll(corners, 1, axis=1), corners], axis=2)  # Q 4 2 2: edge, end, column and row
    before, after = ends < 0, ends >= cells
    outside = (before | after).any(axis=(2, 3))
    missed = (before.all(axis=2) | after.all(axis=2)).any(axis=2)  # beyond one side with both ends
    cut, drawn = ends.copy(), ~missed
    for place in zip(*np.nonzero(outside & ~missed), strict=True):
        cut[place], drawn[place] = _cut(ends[place], cells)
    level = outside & (cut[..., 0, 1] == cut[..., 1, 1])
    whole = cut.copy()  # what the fill goes along: cut lines, but cut ones that became level keep their rows
    whole[level, :, 1] = ends[level, :, 1]
    run, rise = ((whole[..., 1, axis] - whole[..., 0, axis]) for axis in (0, 1))
    slopes = np.sign(run) * np.sign(rise) * ((np.abs(run) << SHIFT) // np.maximum(np.abs(rise), 1))  # to 0, as in C
    rows = np.sort(ends[..., 1], axis=2)
    columns = (whole[..., 0, 0] << SHIFT) + (rows[..., 0] - whole[..., 0, 1]) * slopes
    right = (cut[..., 1, 0] >= cut[..., 0, 0])[..., None]
    starts = np.where(right, cut[..., 0, :], cut[..., 1, :])
    spans = np.where(right, cut[..., 1, :], cut[..., 0, :]) - starts
    return Quads(cells, corners.min(axis=1), corners.max(axis=1), starts, spans, drawn, rows, columns, slopes)


def _cut(ends: Int[np.ndarray, "2 2"], cells: int) -> tuple[Int[np.ndarray, "2 2"], bool]:
    """A line cut to the raster by rows, then by columns, each new end rounded to 0; False where it misses the raster.

    A line that misses may come back half cut: the fill goes along that.
    """
    line = [[int(x) for x in end] for end in ends]
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
    """Return True if both ends lie beyond the same side of the raster."""
    return max(end[axis] for end in line) < 0 or min(end[axis] for end in line) >= cells


def covers(quads: Quads, i: int, cells: Int[np.ndarray, "M 2"]) -> Bool[np.ndarray, " M"]:
    """Return which cells of the raster quadrilateral `i` sets: those between its edges and those on its drawn lines."""
    boxed = np.flatnonzero(((cells >= quads.low[i]) & (cells <= quads.high[i])).all(axis=1))
    set_ = np.zeros(len(cells), bool)
    if len(boxed):
        left, right = _between(quads, np.full(1, i), cells[boxed, 1][None])
        column = cells[boxed, 0]
        set_[boxed] = ((left[0] <= column) & (column <= right[0])) | _on_lines(quads, i, cells[boxed])
    return set_


def _between(
    quads: Quads, chosen: Int[np.ndarray, " C"], rows: Int[np.ndarray, "C R"]
) -> tuple[Int[np.ndarray, "C R"], Int[np.ndarray, "C R"]]:
    """First and last column between the edges of each chosen quadrilateral in each row; the last is less if none is."""
    down = rows[..., None] - quads.rows[chosen, None, :, 0]
    crossed = (down >= 0) & (rows[..., None] < quads.rows[chosen, None, :, 1])  # a row crosses two edges or none
    columns = quads.columns[chosen, None] + down * quads.slopes[chosen, None]
    left = np.where(crossed, columns, 1 << 60).min(axis=2) + (1 << SHIFT) - 1 >> SHIFT
    return left, np.where(crossed, columns, -1 << 60).max(axis=2) >> SHIFT


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


def line_cells(starts: Int[np.ndarray, "S 2"], spans: Int[np.ndarray, "S 2"]) -> Int[np.ndarray, "M 2"]:
    """The cells of S lines inside the raster, drawn as `cv2.line` of thickness 1 does, one line after the other."""
    left = (spans[:, :1] >= 0) * 1
    starts, spans = np.where(left, starts, starts + spans), np.where(left, spans, -spans)
    lengths = np.abs(spans).max(axis=1)
    line = np.repeat(np.arange(len(spans)), lengths + 1)
    walked = _counted(lengths + 1)
    flat = (spans[:, 0] >= np.abs(spans[:, 1]))[line]
    less, length = np.abs(spans).min(axis=1)[line], np.maximum(lengths[line], 1)
    aside = -((length - 2 * less * walked) // (2 * length))  # half a cell is rounded towards the left end
    sign = np.where(spans[line, 1] < 0, -1, 1)
    return starts[line] + np.stack([np.where(flat, walked, aside), sign * np.where(flat, aside, walked)], axis=1)


def _counted(lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """0, 1, ... to each length less one, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def fill(quads: Quads, layers: Int[np.ndarray, " Q"], count: int) -> Bool[np.ndarray, "count cells cells"]:
    """`count` rasters, row first; quadrilateral i is drawn on raster `layers[i]`."""
    side = quads.cells
    drawn = np.zeros((count, side, side), bool)
    if not len(quads):
        return drawn
    rows = quads.low[:, 1:] + np.arange((quads.high - quads.low)[:, 1].max() + 1)
    left, right = _between(quads, np.arange(len(quads)), rows)
    left, right = np.maximum(left, 0), np.minimum(right, side - 1)
    quad, row = np.nonzero((left <= right) & (rows >= 0) & (rows < side))
    lengths = right[quad, row] - left[quad, row] + 1
    place = (np.repeat(each, lengths) for each in (layers[quad], rows[quad, row], left[quad, row]))
    layer, row, first = place
    drawn[layer, row, first + _counted(lengths)] = True
    lines = quads.starts[quads.drawn], quads.spans[quads.drawn]
    lengths = np.abs(lines[1]).max(axis=1) + 1
    layer = np.repeat(np.broadcast_to(layers[:, None], quads.drawn.shape)[quads.drawn], lengths)
    column, row = line_cells(*lines).T
    drawn[layer, row, column] = True
    return drawn


def box_corners(
    centers_m: Float[np.ndarray, "*any 2"], yaws_rad: Float[np.ndarray, "*any"], sizes_lw_m: Float[np.ndarray, "*any 2"]
) -> Float[np.ndarray, "*any 4 2"]:
    """Return corners of boxes in the order of a walk around them; the length lies along the yaw."""
    along = np.stack([np.cos(yaws_rad), np.sin(yaws_rad)], axis=-1) * sizes_lw_m[..., :1] / 2
    aside = np.stack([-np.sin(yaws_rad), np.cos(yaws_rad)], axis=-1) * sizes_lw_m[..., 1:] / 2
    turns = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return np.stack([centers_m + a * along + b * aside for a, b in turns], axis=-2)


def box_cells(
    centers_m: Float[np.ndarray, "*any 2"], yaws_rad: Float[np.ndarray, "*any"], sizes_lw_m: Float[np.ndarray, "*any 2"]
) -> Int[np.ndarray, "*any 4 2"]:
    """Return corner cells of boxes."""
    corners_m = box_corners(centers_m, yaws_rad, sizes_lw_m)
    return np.round((corners_m - FIRST_CENTER_M + CELL_M / np.float32(2)) / CELL_M).astype(np.int64)


def footprints(path_m: Float[np.ndarray, "T 2"]) -> Int[np.ndarray, "T M 2"]:
    """Return cells of the ego at each step, turned into the step's direction.

    Beyond the raster they stick to its border.

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
    relevant: Bool[np.ndarray, " T"] | None = None,
) -> Bool[np.ndarray, " T"]:
    """Return at which steps the ego's footprint sets a cell of a quadrilateral.

    Quadrilateral i is there at step `steps[i]`, 0 to T - 1.

    False at steps that are not `relevant`.
    """
    hits, at = np.zeros(len(path_m), bool), path_m / CELL_M - ORIGIN_CELL
    low, high = (np.clip(at + reach, 0, CELLS - 1)[steps] for reach in (-REACH, REACH))
    near = ((quads.high >= low) & (quads.low <= high)).all(axis=1)
    if relevant is not None:
        near &= relevant[steps]
    if near.any():
        cells = footprints(path_m)
        for i in np.flatnonzero(near).tolist():
            hits[steps[i]] = hits[steps[i]] or covers(quads, i, cells[steps[i]]).any()
    return hits


def leaves(quads: Quads, i: int, allowed: Bool[np.ndarray, "rows columns"]) -> bool:
    """Return True if `cv2.fillPoly` of quadrilateral i would set a cell that is not allowed.

    Beyond the raster all are.
    """
    low, high = np.clip(quads.low[i], 0, None), np.clip(quads.high[i] + 1, 0, None)
    window = allowed[low[1] : high[1], low[0] : high[0]]
    if window.all():
        return False
    rows, columns = np.nonzero(~window)
    return bool(covers(quads, i, np.stack([columns, rows], axis=1) + low).any())
