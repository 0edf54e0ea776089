import numpy as np

from stages.planning.bevplanner import curb_raster
from stages.planning.geometry import CELLS, FOOTPRINT, box_corners, fill, leaves, nearest_cells


def box_cells(x_m: float, y_m: float, yaw_rad: float) -> list[list[int]]:
    """Corner cells of a 4 x 2 m box."""
    corners_m = box_corners(np.array([[x_m, y_m]], float), np.array([yaw_rad], float), np.array([[4.0, 2.0]]))
    return nearest_cells(corners_m)[0].tolist()


def test_a_box_has_its_length_along_its_yaw_and_its_corners_around_the_middle_of_the_raster() -> None:
    assert box_cells(0, 0, 0) == [[520, 510], [480, 510], [480, 490], [520, 490]]
    assert box_cells(0, 0, np.pi / 2) == [[490, 520], [490, 480], [510, 480], [510, 520]]


def test_boxes_stand_on_the_raster_of_their_step_alone() -> None:
    quads = np.array([[[1, 1], [3, 1], [3, 2], [1, 2]], [[8, 8], [12, 8], [12, 12], [8, 12]]])
    rasters = fill(quads, np.array([0, 5]), cells=10)
    assert rasters[0].sum() == 6
    assert rasters[0, 1:3, 1:4].all()  # row first
    assert rasters[5].sum() == 4  # what lies beyond the border is cut
    assert not rasters[1:5].any()


def test_a_box_leaves_what_is_allowed_where_it_covers_a_cell_of_the_rest() -> None:
    allowed = np.ones((CELLS, CELLS), bool)
    allowed[500, 999] = False
    quads = np.array([box_cells(50, 0, 0), box_cells(80, 0, 0), box_cells(0, 0, 0)])
    assert leaves(quads, allowed).tolist() == [True, False, False]
    assert leaves(quads, ~allowed).tolist() == [True, False, True]  # beyond the raster all is allowed


def test_curbs_are_one_cell_thick_and_run_along_the_border_where_they_leave_the_raster() -> None:
    raster = curb_raster(np.array([[[0.0, 0.0], [0.0, 1.0]], [[-60.0, 60.0], [0.0, 55.0]]]))
    assert raster[499:510, 499].all()
    assert raster[999, :500].all()
    assert raster.sum() == 11 + 500
    assert not curb_raster(np.empty((0, 2, 2))).any()


def test_the_footprint_is_every_cell_of_the_box_of_4_084_by_1_85_m() -> None:
    assert len(FOOTPRINT) == 738
    low_m, high_m = FOOTPRINT.min(axis=0) / 10, FOOTPRINT.max(axis=0) / 10
    back_m, front_m, side_m = 1.485793 - 2.042, 1.485793 + 2.042, 0.925
    assert (low_m >= [back_m, -side_m]).all()
    assert (low_m - 0.1 < [back_m, -side_m]).all()
    assert (high_m <= [front_m, side_m]).all()
    assert (high_m + 0.1 > [front_m, side_m]).all()
