"""Pictures one can check by eye: two tokens, one box, one road, paths in the front camera; charts that stay equal."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from one_frame import NO_BOXES, make_frame

from stages.report.figures import saliency_shares, svg, training_curves
from stages.report.images import PLAN, ROAD, kept_tokens, plan_colours, road_from_above, tinted
from stages.report.sections import extremes, worst_rows

GREY = np.full((40, 80, 3), 200, np.uint8)
AHEAD = np.arange(1, 7)[:, None] * np.array([[2.0, 0.0]])
FRAME = replace(make_frame(Path("front.png")), future_ego_m=AHEAD)


def test_kept_cells_stay_as_they_are_outlined_and_dropped_ones_are_dark() -> None:
    picture = kept_tokens(GREY, np.array([0, 3]), (2, 2))
    assert (picture[1:19, 1:39] == 200).all()
    assert (picture[21:39, 41:79] == 200).all()
    assert (picture[:19, 41:] == 60).all()
    assert (picture[0, :40] == 255).all()
    assert (GREY == 200).all()


def test_tint_is_where_the_foreground_is() -> None:
    foreground = np.zeros((40, 80), bool)
    foreground[10:30, 10:30] = True
    picture = tinted(GREY, foreground)
    assert (picture[:9] == 200).all()
    assert int(picture[20, 20, 2]) > int(picture[20, 20, 0])


def elements(picture: bytes) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(picture).iter())


def points(path: str) -> list[tuple[int, int]]:
    numbers = [int(number) for number in re.findall(r"-?\d+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_ahead_is_up_and_left_is_left() -> None:
    plan_m = np.array([[2.0 * i, 5.0] for i in range(1, 7)])
    (line,) = [part for part in elements(road_from_above(FRAME, plan_m, None)) if part.get("stroke") == PLAN]
    assert points(line.get("d", "")) == [(0, 0), *((-50, -20 * i) for i in range(1, 7))]


def test_the_road_lies_where_the_mask_is() -> None:
    drivable = np.zeros((1000, 1000), bool)
    drivable[500:550, 400:700] = True  # y from 0 to 5 m: left; x from -10 to 20 m
    (road,) = [part for part in elements(road_from_above(FRAME, AHEAD, drivable)) if part.get("fill") == ROAD]
    xs, ys = zip(*points(road.get("d", "")), strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (-50, -1, -200, 99)


def test_a_box_is_drawn_at_its_footprint() -> None:
    car = {"categories": ("vehicle.car",), "instances": ("car",), "centers_m": np.array([[15.0, 3.0, 0.0]])}
    shape = {"sizes_wlh_m": np.array([[2.0, 4.0, 1.5]]), "rotations_wxyz": np.array([[1.0, 0, 0, 0]])}
    boxes = replace(NO_BOXES, **car, **shape)
    drawn = road_from_above(replace(FRAME, boxes=boxes), AHEAD, None)
    paths = [part.get("d", "") for part in elements(drawn) if part.get("d")]
    assert set(points(paths[0])) == {(-20, -170), (-40, -170), (-20, -130), (-40, -130)}


def test_a_road_has_one_shape_is_small_and_takes_absurd_plans() -> None:
    drivable = np.ones((1000, 1000), bool)
    near, far = (road_from_above(FRAME, plan_m, drivable) for plan_m in (AHEAD, AHEAD * 4 + [0, 30.0]))
    shapes = [ElementTree.fromstring(picture).attrib for picture in (near, far)]
    assert [int(s["width"]) / int(s["height"]) for s in shapes] == pytest.approx([0.75, 0.75], abs=0.01)
    assert max(map(len, (near, far))) < 3000
    assert b"inf" not in road_from_above(FRAME, np.full((6, 2), 1e300), None)


def test_several_plans_have_their_colours_and_a_legend() -> None:
    drawn = road_from_above(FRAME, {"none": AHEAD, "recon": AHEAD, "fastv": AHEAD}, None)
    legend = {part.text: part.get("fill") for part in elements(drawn) if part.tag.endswith("text")}
    assert legend == plan_colours(["none", "recon", "fastv"])
    assert len(set(legend.values())) == 4


def test_the_histogram_of_saliency_has_a_column_of_shares_per_step_and_charts_stay_equal() -> None:
    rows = [("held_out", 0.0, None), ("train", 1.0, "3 1"), ("train", 2.0, "0 4")]
    history = pd.DataFrame(rows, columns=["split", "step", "saliency"]).assign(loss_fore=0.1, auc=0.9)
    steps, shares = saliency_shares(history)
    assert steps == [1, 2]
    np.testing.assert_allclose(shares, [[0.75, 0], [0.25, 1]])
    first, second = (svg(training_curves(history, "loss")) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first


def test_the_worst_samples_stand_once_at_their_worst_ratio() -> None:
    def part(percent: int, **l2_at_cm: float | None) -> pd.DataFrame:
        rows = [{"token": t, "pruned_percent": percent, "l2_at_cm_3s": value} for t, value in l2_at_cm.items()]
        return pd.DataFrame(rows).assign(l2_at_cm_1s=1.0, l2_at_cm_2s=2.0)

    samples = {("recon", 25): part(25, a=100, b=300, c=200, d=None), ("recon", 50): part(50, a=400, b=250, c=200)}
    found = worst_rows(samples, "recon", [25, 50], 20)
    assert [(row["token"], row["pruned_percent"]) for row in found] == [("a", 50), ("b", 25), ("c", 25)]
    assert worst_rows(samples, "recon", [25, 50], 0) == []


def test_masks_at_the_extremes_come_first_and_a_camera_of_a_scene_once() -> None:
    cells = [("a", 0.1, "1"), ("b", 0.2, "1"), ("c", 0.5, "2"), ("d", 0.9, "3")]
    rows = [{"token": t, "foreground_share": share, "scene": s, "camera": "CAM_FRONT"} for t, share, s in cells]
    least, most = extremes(rows, 3).values()
    assert [r["token"] for r in least] == ["a", "c", "d"]
    assert [r["token"] for r in most] == ["d", "c", "b"]
