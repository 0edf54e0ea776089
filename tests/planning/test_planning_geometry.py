import cv2
import numpy as np
from numpy.typing import NDArray

from stages.planning.geometry import CELLS, FOOTPRINT, REACH, box_cells, leaves, quads_of


def test_a_box_at_the_ego_has_its_corners_in_cells_around_the_middle() -> None:
    corners = box_cells(np.zeros(2), np.zeros(()), np.array([4.0, 2.0]))
    assert corners.tolist() == [[520, 510], [480, 510], [480, 490], [520, 490]]


def test_a_turned_box_has_its_length_along_its_yaw() -> None:
    corners = box_cells(np.zeros(2), np.array(np.pi / 2), np.array([4.0, 2.0]))
    assert corners.tolist() == [[490, 520], [490, 480], [510, 480], [510, 520]]


def random_quads(n: int, low: float, high: float, longest: float, widest: float) -> NDArray[np.int64]:
    """Boxes with random centres in cells; a fifth of them at multiples of 45 degrees, where ties are."""
    draw = np.random.default_rng(7)
    yaws = np.where(np.arange(n) % 5 == 0, draw.integers(-4, 5, n) * np.pi / 4, draw.uniform(-np.pi, np.pi, n))
    sizes_m = np.stack([draw.uniform(0, longest, n), draw.uniform(0, widest, n)], axis=1) / 10
    return box_cells(draw.uniform(low, high, (n, 2)) / 10 - 50, yaws, sizes_m)


def filled_by_opencv(quad: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    canvas = np.zeros((side, side))
    cv2.fillPoly(canvas, [quad.astype(np.int32)], 1.0)
    return canvas > 0


def test_a_box_leaves_what_is_allowed_where_opencv_would_paint() -> None:
    side = 60
    for quad in random_quads(100, 10, 50, 20, 8):
        filled, quads = filled_by_opencv(quad, side), quads_of(quad[None], side)
        allowed = filled.copy()
        assert not leaves(quads, 0, allowed)
        row, column = np.argwhere(filled)[filled.sum() // 3]
        allowed[row, column] = False
        assert leaves(quads, 0, allowed)


def test_of_a_box_across_the_border_the_part_inside_counts() -> None:
    allowed = np.ones((CELLS, CELLS), bool)
    allowed[500, 999] = False
    places_m = np.array([[50.0, 0.0], [80.0, 0.0]])
    quads = quads_of(box_cells(places_m, np.zeros(2), np.tile([4.0, 2.0], (2, 1))), CELLS)
    assert leaves(quads, 0, allowed)
    assert not leaves(quads, 1, ~allowed)
    assert not leaves(quads, 0, np.ones_like(allowed))


def test_the_footprint_is_every_cell_of_the_box_of_4_084_by_1_85_m() -> None:
    assert len(FOOTPRINT) == 738
    low_m, high_m = FOOTPRINT.min(axis=0) / 10, FOOTPRINT.max(axis=0) / 10
    back_m, front_m, side_m = 1.485793 - 2.042, 1.485793 + 2.042, 0.925
    assert (low_m >= [back_m, -side_m]).all()
    assert (low_m - 0.1 < [back_m, -side_m]).all()
    assert (high_m <= [front_m, side_m]).all()
    assert (high_m + 0.1 > [front_m, side_m]).all()


def test_no_cell_of_the_ego_is_out_of_reach_however_it_is_turned() -> None:
    farthest = np.hypot(*FOOTPRINT.T).max()
    assert farthest + 2 <= REACH < farthest + 4  # rounded twice by half a cell, then cut to whole cells
