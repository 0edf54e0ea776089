from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.core.errors import ParamsError
from stages.masks import base
from stages.masks import nuscenes_geometry as geometry
from stages.masks.base import CLASSES, Mask
from stages.masks.nuscenes_geometry import Annotator
from stages.scenes.base import Boxes, Camera, Frame
from stages.scenes.maps import Polygon

NO_BOXES = Boxes((), (), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 4)))
EVERYWHERE = ("drivable_area", np.array([[-90.0, -90], [90, -90], [90, 90], [-90, 90]]), ())
ROAD, VEHICLE, HUMAN, SIGN, BARRIER = range(1, 6)
# A level camera 1 m above the ground at the ego's origin, looking along x: x right = -y, y down = -z, z forward = x.
CAMERA_FROM_EGO = np.array([[0.0, -1, 0, 0], [0, 0, -1, 1], [1, 0, 0, 0], [0, 0, 0, 1]])
INTRINSIC = np.array([[20.0, 0, 20], [0, 20, 10], [0, 0, 1]])  # 40 x 20 pixels, horizon between rows 10 and 11


class FlatMap:
    def __init__(self, polygons: list[Polygon], lights: Boxes = NO_BOXES) -> None:
        self.polygons, self.lights = polygons, lights

    def map_polygons(self, location: str, layers: tuple[str, ...], *_: object) -> list[Polygon]:
        return [polygon for polygon in self.polygons if polygon[0] in layers]

    def traffic_lights(self, *_: object) -> Boxes:
        return self.lights


def boxes(*items: tuple[str, tuple[float, float, float], tuple[float, float, float]]) -> Boxes:
    """(category, centre, size w l h) each, heading along x."""
    return Boxes(
        tuple(item[0] for item in items),
        tuple(str(i) for i in range(len(items))),
        np.array([item[1] for item in items], float).reshape(-1, 3),
        np.array([item[2] for item in items], float).reshape(-1, 3),
        np.tile([1.0, 0, 0, 0], (len(items), 1)),
    )


def annotate(found: Boxes, polygons: list[Polygon], lights: Boxes = NO_BOXES, not_road: tuple[str, ...] = ()) -> Mask:
    camera = Camera("CAM_FRONT", "image", Path("image.jpg"), (40, 20), INTRINSIC, CAMERA_FROM_EGO)
    frame = Frame(
        token="sample", scene="scene-0001", location="boston-seaport", description="", timestamp_us=0,
        global_from_ego=np.eye(4), ego_from_lidar=np.eye(4), cameras={"CAM_FRONT": camera}, boxes=found, speed_mps=0.0,
        future_ego_m=np.zeros((6, 2)),
    )  # fmt: skip
    (mask,) = Annotator(FlatMap(polygons, lights), not_road=not_road).annotate([(frame, camera)])
    return mask


def classes_of(mask: Mask) -> NDArray[np.uint8]:
    assert mask.classes is not None
    return mask.classes


def test_a_road_everywhere_fills_what_is_below_the_horizon() -> None:
    mask = annotate(NO_BOXES, [EVERYWHERE])
    assert mask.foreground[11:].all()
    assert not mask.foreground[:10].any()
    assert mask.phrases == ()
    assert mask.boxes_xyxy.shape == (0, 4)


def test_a_walkway_on_the_road_is_road_unless_it_is_to_be_cut_out() -> None:
    walkway = ("walkway", np.array([[4.0, -1], [10, -1], [10, 1], [4, 1]]), ())
    assert annotate(NO_BOXES, [EVERYWHERE, walkway]).foreground[14, :].all()
    cut = annotate(NO_BOXES, [EVERYWHERE, walkway], not_road=("walkway",))
    assert not cut.foreground[14, 18:22].any()  # row 14 is 5 m away
    assert cut.foreground[14, :10].all()


def test_a_car_covers_its_silhouette_and_names_it() -> None:
    car = boxes(("vehicle.car", (12.0, 0, 1), (2.0, 4.0, 2.0)))  # rear at 10 m: u 18..22, v 8..12
    mask = annotate(car, [])
    rows, columns = np.nonzero(mask.foreground)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 12, 18, 22)
    assert mask.phrases == ("vehicle",)
    assert mask.boxes_xyxy.tolist() == [[18, 8, 23, 13]]


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_object_hides_the_farther_whatever_the_order(order: int) -> None:
    truck = ("vehicle.truck", (10.0, 0.0, 1.5), (3.0, 4.0, 3.0))
    hidden = ("human.pedestrian.adult", (20.0, 0.0, 0.9), (0.6, 0.6, 1.8))
    before = ("movable_object.barrier", (6.0, 0.0, 0.5), (1.0, 0.4, 1.0))
    mask = annotate(boxes(*[truck, hidden, before][::order]), [])
    assert sorted(mask.phrases) == ["barrier", "vehicle"]
    assert classes_of(mask)[11, 20] == BARRIER
    assert classes_of(mask)[5, 20] == VEHICLE


def test_a_person_behind_the_near_end_of_a_long_truck_is_hidden_though_its_middle_is_farther() -> None:
    truck = ("vehicle.truck", (15.0, 2.0, 2.0), (3.0, 20.0, 4.0))  # from 5 m to 25 m, left of the camera
    person = ("human.pedestrian.adult", (12.0, 4.5, 0.9), (0.6, 0.6, 1.8))  # at its far side, nearer than its middle
    assert annotate(boxes(truck, person), []).phrases == ("vehicle",)


def test_what_is_behind_the_camera_is_not_seen_and_what_reaches_past_it_is_cut() -> None:
    behind = ("vehicle.car", (-12.0, 0.0, 1.0), (2.0, 4.0, 2.0))
    beside = ("vehicle.bus.rigid", (0.0, 2.5, 1.5), (3.0, 12.0, 3.0))  # from 6 m behind to 6 m ahead, at the left
    mask = annotate(boxes(behind, beside), [])
    assert mask.phrases == ("vehicle",)
    assert classes_of(mask)[10, 0] == VEHICLE
    assert not mask.foreground[:, 20:].any()


def test_every_class_has_its_categories() -> None:
    names = ["human.pedestrian.child", "vehicle.bicycle", "movable_object.trafficcone", "movable_object.debris"]
    items = [(name, (10.0, 6.0 - 3 * i, 0.9), (1.0, 1.0, 1.8)) for i, name in enumerate(names)]
    lights = boxes(("traffic_light", (10.0, -6.0, 3.0), (0.3, 0.3, 1.0)))
    mask = annotate(boxes(*items), [EVERYWHERE], lights)
    assert mask.phrases == ("human", "vehicle", "barrier", "barrier", "sign")
    assert {CLASSES[i - 1] for i in np.unique(classes_of(mask)) if i} == set(CLASSES)


def test_animals_and_bicycle_racks_are_background() -> None:
    others = boxes(
        ("animal", (10.0, 0.0, 0.5), (0.5, 1.0, 1.0)), ("static_object.bicycle_rack", (10.0, 3.0, 0.5), (2.0, 4.0, 1.0))
    )
    assert not annotate(others, []).foreground.any()


def test_an_unknown_annotator_or_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParamsError, match="did you mean 'nuscenes_geometry'"):
        base.load("nuscenes_geometri", FlatMap([]), {})
    with pytest.raises(ParamsError, match="did you mean 'range_m'"):
        base.load("nuscenes_geometry", FlatMap([]), {"range_n": 40.0})
    assert base.load("nuscenes_geometry", FlatMap([]), {"range_m": 40.0}).range_m == 40.0


LENS = np.array([[10.0, 0, 8], [0, 10, 6], [0, 0, 1]])  # 16 x 12 pixels
SIZE = (16, 12)
PLANES = geometry.view_planes(LENS, SIZE, near_m=0.5)


def test_rings_are_cut_apart_from_each_other_and_the_argument_stays() -> None:
    square = np.array([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    both = np.concatenate([square, square - [0, 0, 5], square + [9, 9, 0]])
    before = both.copy()
    points, ring = geometry.clip_and_project(both, np.repeat([0, 1, 2], 4), np.eye(3), np.array([[0.0, 0, 1, 0]]))
    assert ring.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]  # the second lay behind the camera
    np.testing.assert_array_equal(points, np.concatenate([square, square + [9, 9, 0]])[:, :2])
    np.testing.assert_array_equal(both, before)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(1, 9)), min_size=3, max_size=3))
def test_a_clipped_triangle_covers_what_shapely_says(corners: list[tuple[float, float, float]]) -> None:
    triangle = np.array(corners)
    W, H = SIZE
    pixels = triangle @ LENS.T
    whole = shapely.Polygon(pixels[:, :2] / pixels[:, 2:])
    seen = shapely.box(-W, -H, 2 * W, 2 * H)  # the image and its margin
    points, _ = geometry.clip_and_project(triangle, np.zeros(3, int), LENS, PLANES)
    area = shapely.Polygon(points).area if len(points) >= 3 else 0.0
    assert np.isclose(area, whole.intersection(seen).area, rtol=1e-6, atol=1e-4)


def test_a_ray_enters_a_box_at_its_side() -> None:
    corners = geometry.box_corners(
        np.array([[5.0, 0, 10]]), np.array([[4.0, 2, 8]]), np.eye(3)[None]
    )  # x 4..6, z 6..14
    planes = geometry.entry_planes(corners, LENS)[0]
    depth = 1 / geometry.inverse_depth(planes, (slice(6, 7), slice(12, 16)))
    np.testing.assert_allclose(depth[0, :3], [10, 8, 40 / 6])  # x = 4 is met at z = 40 / (u - 8)
    assert depth[0, 3] == 6  # and beyond u = 8 + 10 * 4 / 6 the front face, z = 6


def test_a_hole_stays_empty_and_a_second_shape_does_not_erase_the_first() -> None:
    canvas = np.zeros((12, 16), np.int32)
    outer = np.array([[1.0, 1], [11, 1], [11, 9], [1, 9]])
    hole = np.array([[4.0, 4], [8, 4], [8, 7], [4, 7]])
    geometry.fill_even_odd(canvas, [outer, hole], 1)
    assert canvas[2, 2] == 1
    assert canvas[5, 6] == 0
    geometry.fill_even_odd(canvas, [hole + 0.0], 1)
    assert canvas[5, 6] == 1


def test_a_convex_mask_is_the_same_in_any_window() -> None:
    ring = np.array([[3.0, 2], [9, 2], [9, 8], [3, 8]])
    rows, columns = geometry.window_of(ring, SIZE)
    part = geometry.convex_mask(ring, (rows, columns))
    whole = geometry.convex_mask(ring, (slice(0, 12), slice(0, 16)))
    np.testing.assert_array_equal(whole[rows, columns], part)
    assert whole.sum() == part.sum() == 7 * 7
    for aside in ([100, 0], [0, 100], [-100, -100]):
        assert geometry.convex_mask(ring + aside, geometry.window_of(ring + aside, SIZE)).size == 0
