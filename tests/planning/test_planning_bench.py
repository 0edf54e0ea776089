"""The fast ways give what the plain ones give, and ask few pairs; times are for `python -m stages.planning.bench`."""

import numpy as np
import pytest

from stages.planning import base, bench, geometry


def test_all_boxes_at_once_are_hit_where_a_loop_of_shapely_hits_them() -> None:
    cases = bench.samples(25, 30)
    at_once, by_pair = ([way(*case) for case in cases] for way in (bench.boxes_at_once, bench.boxes_by_pair))
    np.testing.assert_array_equal(at_once, by_pair)
    assert 10 < np.sum(at_once) < 140  # of 150 steps: neither all nor none


def test_the_road_is_left_where_drawn_boxes_leave_it() -> None:
    cases = [(plan_m, truth.drivable) for plan_m, truth in bench.samples(25, 1)]
    by_window, by_drawing = ([way(*case) for case in cases] for way in (bench.road_by_window, bench.road_by_drawing))
    np.testing.assert_array_equal(by_window, by_drawing)
    assert 5 < np.sum(by_window) < 170


def test_few_of_180_pairs_are_asked_cell_by_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    covers = geometry.covers
    monkeypatch.setattr(geometry, "covers", lambda quads, i, cells: asked.append(i) or covers(quads, i, cells))
    prepare, judge = base.load_parts("omnidrive")
    ready = [(plan_m, prepare(truth)) for plan_m, truth in bench.samples(25, 30)]
    asked.clear()
    for one in ready:
        judge(*one)
    assert 0 < len(asked) < 25 * 180 / 20


def test_the_bench_prints_a_line_for_each_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(count=2, boxes=3)
    said = capsys.readouterr().out
    assert said.count("same: True") == 2
    assert all(f"{name}: prepare" in said for name in base.available())
