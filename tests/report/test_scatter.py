"""The chart of accuracy against cost: its panels, its front, the same bytes twice."""

from typing import Any

from stages.report.figures import svg
from stages.report.scatter import tradeoff


def point(method: str, percent: int, cost: float, error: float, ms: float | None = None) -> dict[str, Any]:
    ends = {f"{name}{end}": error for name in ("l2_cm_avg", "collision_pct_avg") for end in ("", "_low", "_high")}
    return {"method": method, "pruned_percent": percent, "tflops": cost, "mflops": cost, "ms": ms, **ends}


ROWS = [point("none", 0, 4.0, 40.0, 20.0), point("recon", 50, 2.0, 42.0, 10.0), point("fastv", 50, 3.0, 50.0, 5.0)]


def test_two_errors_by_three_costs_and_the_budget_where_milliseconds_are() -> None:
    figure = tradeoff(ROWS, 12.0)
    assert len(figure.axes) == 6
    assert [axes.get_xlabel().split()[0] for axes in figure.axes[3:]] == ["TFLOPs", "MFLOPs", "ms"]
    at_budget = [[line for line in axes.lines if line.get_label() == "budget"] for axes in figure.axes]
    assert [len(lines) for lines in at_budget] == [0, 0, 1, 0, 0, 1]
    assert list(at_budget[2][0].get_xdata()) == [12, 12]


def test_the_front_is_drawn_through_its_points_alone_cheapest_first() -> None:
    (front,) = [line for line in tradeoff(ROWS, None).axes[0].lines if line.get_label() == "Pareto front"]
    assert list(front.get_xdata()) == [2, 4]
    assert list(front.get_ydata()) == [42, 40]


def test_a_cost_that_nobody_measured_has_no_panel() -> None:
    figure = tradeoff([row | {"ms": None} for row in ROWS], 12.0)
    assert len(figure.axes) == 4


def test_the_same_numbers_give_the_same_bytes() -> None:
    first, second = (svg(tradeoff(ROWS, 12.0)) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first


def test_an_interval_beside_its_estimate_is_drawn_from_the_estimate() -> None:
    beside = ROWS[1] | {"l2_cm_avg_low": 43.0, "l2_cm_avg_high": 44.0}
    (bar,) = [bars for bars in tradeoff([ROWS[0], beside], None).axes[0].containers if bars.get_label() == "recon"]
    ((_, low), (_, high)) = bar[2][0].get_segments()[0]
    assert (low, high) == (42.0, 44.0)
