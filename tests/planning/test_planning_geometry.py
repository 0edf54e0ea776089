import cv2
import numpy as np
from numpy.typing import NDArray

from stages.planning.geometry import CELLS, box_cells, covers, touches


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


def test_covered_cells_are_those_that_opencv_fills() -> None:
    side = 130
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    for longest, widest in ((100, 30), (20, 5), (60, 1), (1, 1)):
        for quad in random_quads(60, 60, 70, longest, widest):
            np.testing.assert_array_equal(covers(quad, cells).reshape(side, side), filled_by_opencv(quad, side))


def test_a_box_touches_what_opencv_would_paint_over() -> None:
    side = 60
    for quad in random_quads(100, 10, 50, 20, 8):
        filled = np.argwhere(filled_by_opencv(quad, side))
        beside = ~filled_by_opencv(quad, side)
        assert not touches(quad, beside)
        row, column = filled[len(filled) // 3]
        beside[row, column] = True
        assert touches(quad, beside)


def test_of_a_box_across_the_border_the_part_inside_counts() -> None:
    occupied = np.zeros((CELLS, CELLS), bool)
    occupied[500, 999] = True
    half_out, outside = (box_cells(np.array([x_m, 0.0]), np.zeros(()), np.array([4.0, 2.0])) for x_m in (50.0, 80.0))
    assert touches(half_out, occupied)
    assert not touches(outside, ~occupied)
    assert not touches(half_out, np.zeros_like(occupied))
