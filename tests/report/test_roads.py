"""The small road from above: one box, one road, two paths."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from one_frame import NO_BOXES, make_frame

from stages.report.roads import PLAN, ROAD, small_road

AHEAD = np.arange(1, 7)[:, None] * np.array([[2.0, 0.0]])
FRAME = replace(make_frame(Path("front.png")), future_ego_m=AHEAD)


def elements(picture: bytes) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(picture).iter())


def points(path: str) -> list[tuple[int, int]]:
    numbers = [int(number) for number in re.findall(r"-?\d+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_ahead_is_up_and_left_is_left() -> None:
    plan_m = np.array([[2.0 * i, 5.0] for i in range(1, 7)])
    (line,) = [part for part in elements(small_road(FRAME, plan_m, None)) if part.get("stroke") == PLAN]
    assert points(line.get("d", "")) == [(0, 0), *((-50, -20 * i) for i in range(1, 7))]


def test_the_road_lies_where_the_mask_is() -> None:
    drivable = np.zeros((1000, 1000), bool)
    drivable[500:550, 400:700] = True  # y from 0 to 5 m: left; x from -10 to 20 m
    (road,) = [part for part in elements(small_road(FRAME, AHEAD, drivable)) if part.get("fill") == ROAD]
    xs, ys = zip(*points(road.get("d", "")), strict=True)
    assert (min(xs), max(xs)) == (-50, -1)
    assert (min(ys), max(ys)) == (-200, 99)


def test_a_box_is_drawn_at_its_footprint() -> None:
    boxes = replace(
        NO_BOXES,
        categories=("vehicle.car",),
        instances=("car",),
        centers_m=np.array([[15.0, 3.0, 0.0]]),
        sizes_wlh_m=np.array([[2.0, 4.0, 1.5]]),
        rotations_wxyz=np.array([[1.0, 0, 0, 0]]),
    )
    drawn = small_road(replace(FRAME, boxes=boxes), AHEAD, None)
    paths = [part.get("d", "") for part in elements(drawn) if part.get("d")]
    assert set(points(paths[0])) == {(-20, -170), (-40, -170), (-20, -130), (-40, -130)}


def test_every_picture_has_one_shape_is_small_and_the_same_bytes_twice() -> None:
    drivable = np.ones((1000, 1000), bool)
    near, far = (small_road(FRAME, plan_m, drivable) for plan_m in (AHEAD, AHEAD * 4 + [0, 30.0]))
    shapes = [ElementTree.fromstring(picture).attrib for picture in (near, far)]
    ratios = [int(shape["width"]) / int(shape["height"]) for shape in shapes]
    assert max(abs(ratio - 0.75) for ratio in ratios) < 0.01
    assert max(map(len, (near, far))) < 3000
    assert near == small_road(FRAME, AHEAD.copy(), drivable.copy())


def test_absurd_plans_are_drawn_as_far_as_the_page_goes() -> None:
    plan_m = np.full((6, 2), 1e300)
    assert b"inf" not in small_road(FRAME, plan_m, None)
