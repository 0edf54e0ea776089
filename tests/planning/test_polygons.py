"""Cell by cell against OpenCV, inside the raster and across its border."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.planning.geometry import covers, fill, line_cells, quads_of

DRAW = np.random.default_rng(7)


def random_quads(n: int, side: int, longest: float, widest: float) -> NDArray[np.int64]:
    """Boxes in cells, half of them at a border; a fifth at multiples of 45 degrees, where ties are."""
    yaws = np.where(np.arange(n) % 5 == 0, DRAW.integers(-4, 5, n) * np.pi / 4, DRAW.uniform(-np.pi, np.pi, n))
    centers = DRAW.uniform(-longest / 3, side + longest / 3, (n, 2))
    at_border, axis = np.arange(n) % 2 == 0, DRAW.integers(0, 2, n)
    place = DRAW.choice([0, side], n) + DRAW.uniform(-longest / 2, longest / 2, n)
    centers[at_border, axis[at_border]] = place[at_border]
    heading = np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
    along = heading * DRAW.uniform(0, longest, (n, 1)) / 2
    aside = heading[:, ::-1] * [-1, 1] * DRAW.uniform(0, widest, (n, 1)) / 2
    corners = [centers + along + aside, centers - along + aside, centers - along - aside, centers + along - aside]
    return np.round(np.stack(corners, axis=1)).astype(np.int64)


def filled_by_opencv(quads: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    canvas = np.zeros((side, side), np.uint8)
    for quad in quads:
        cv2.fillPoly(canvas, [quad.astype(np.int32)], 1)
    return canvas > 0


@pytest.mark.parametrize(("longest", "widest"), [(26, 6), (60, 20), (6, 1), (1, 1)])
def test_a_quadrilateral_covers_the_cells_that_opencv_fills(longest: float, widest: float) -> None:
    side = 50
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    corners = random_quads(200, side, longest, widest)
    quads = quads_of(corners, side)
    for i in range(len(quads)):
        expected = filled_by_opencv(corners[i : i + 1], side)
        np.testing.assert_array_equal(covers(quads, i, cells).reshape(side, side), expected, err_msg=str(corners[i]))


def test_rasters_are_those_that_opencv_fills() -> None:
    corners, layers = random_quads(600, 60, 30, 8), DRAW.integers(0, 100, 600)
    expected = np.stack([filled_by_opencv(corners[layers == layer], 60) for layer in range(100)])
    np.testing.assert_array_equal(fill(quads_of(corners, 60), layers, 100), expected)
    assert not fill(quads_of(np.empty((0, 4, 2), np.int64), 60), np.empty(0, np.int64), 2).any()


def test_lines_are_those_that_opencv_draws() -> None:
    for start, end in DRAW.integers(0, 40, (300, 2, 2)):
        canvas = np.zeros((40, 40), np.uint8)
        cv2.line(canvas, start.tolist(), end.tolist(), 1, 1)
        column, row = line_cells(start[None], (end - start)[None]).T
        drawn = np.zeros((40, 40), np.uint8)
        drawn[row, column] = 1
        np.testing.assert_array_equal(drawn, canvas, err_msg=f"{start} {end}")


def test_two_lines_are_drawn_one_after_the_other() -> None:
    cells = line_cells(np.array([[0, 0], [5, 5]]), np.array([[2, 0], [0, -1]]))
    assert cells.tolist() == [[0, 0], [1, 0], [2, 0], [5, 5], [5, 4]]
