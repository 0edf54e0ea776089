import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.masks import projection

INTRINSIC = np.array([[10.0, 0, 8], [0, 10, 6], [0, 0, 1]])  # 16 x 12 pixels
SIZE = (16, 12)
PLANES = projection.view_planes(INTRINSIC, SIZE, near_m=0.5)


def test_rings_are_cut_apart_from_each_other_and_the_argument_stays() -> None:
    square = np.array([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    both = np.concatenate([square, square - [0, 0, 5], square + [9, 9, 0]])
    before = both.copy()
    points, ring = projection.clip(both, np.repeat([0, 1, 2], 4), np.array([[0.0, 0, 1, 0]]))
    assert ring.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]  # the second lay behind the camera
    np.testing.assert_array_equal(points, np.concatenate([square, square + [9, 9, 0]]))
    np.testing.assert_array_equal(both, before)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(1, 9)), min_size=3, max_size=3))
def test_a_clipped_triangle_covers_what_shapely_says(corners: list[tuple[float, float, float]]) -> None:
    triangle = np.array(corners)
    W, H = SIZE
    whole = shapely.Polygon(projection.project(triangle, INTRINSIC))
    seen = shapely.box(-W, -H, 2 * W, 2 * H)  # the image and its margin
    points, _ = projection.clip(triangle, np.zeros(3, int), PLANES)
    area = shapely.Polygon(projection.project(points, INTRINSIC)).area if len(points) >= 3 else 0.0
    assert np.isclose(area, whole.intersection(seen).area, rtol=1e-6, atol=1e-4)


def test_a_ray_enters_a_box_at_its_near_face() -> None:
    corners = projection.box_corners(
        np.array([[0.0, 0, 10]]), np.array([[2.0, 2, 4]]), np.eye(3)[None]
    )  # z from 8 to 12
    planes = projection.entry_planes(corners, INTRINSIC)[0]
    depth = 1 / projection.inverse_depth(planes, (slice(6, 7), slice(8, 9)))
    assert np.isclose(depth[0, 0], 8)
    assert np.isfinite(planes).all(axis=1).sum() == 1  # straight ahead, one face is turned to the camera


def test_a_ray_enters_a_box_at_its_side() -> None:
    corners = projection.box_corners(
        np.array([[5.0, 0, 10]]), np.array([[4.0, 2, 8]]), np.eye(3)[None]
    )  # x 4..6, z 6..14
    planes = projection.entry_planes(corners, INTRINSIC)[0]
    depth = 1 / projection.inverse_depth(planes, (slice(6, 7), slice(12, 16)))
    np.testing.assert_allclose(depth[0, :3], [10, 8, 40 / 6])  # x = 4 is met at z = 40 / (u - 8)
    assert depth[0, 3] == 6  # and beyond u = 8 + 10 * 4 / 6 the front face, z = 6


def test_a_hole_stays_empty_and_a_second_shape_does_not_erase_the_first() -> None:
    canvas = np.zeros((12, 16), np.int32)
    outer = np.array([[1.0, 1], [11, 1], [11, 9], [1, 9]])
    hole = np.array([[4.0, 4], [8, 4], [8, 7], [4, 7]])
    projection.fill_even_odd(canvas, [outer, hole], 1)
    assert canvas[2, 2] == 1
    assert canvas[5, 6] == 0
    projection.fill_even_odd(canvas, [hole + 0.0], 1)
    assert canvas[5, 6] == 1


def test_a_convex_mask_is_the_same_in_any_window() -> None:
    ring = np.array([[3.0, 2], [9, 2], [9, 8], [3, 8]])
    rows, columns = projection.window_of(ring, SIZE)
    part = projection.convex_mask(ring, (rows, columns))
    whole = projection.convex_mask(ring, (slice(0, 12), slice(0, 16)))
    np.testing.assert_array_equal(whole[rows, columns], part)
    assert whole.sum() == part.sum() == 7 * 7
    for aside in ([100, 0], [0, 100], [-100, -100]):
        assert projection.convex_mask(ring + aside, projection.window_of(ring + aside, SIZE)).size == 0
