"""Small charts: the same bytes twice, and points where the numbers say."""

from typing import Any

from stages.report.bands import against_ratio, by_event, kept_shares
from stages.report.figures import svg

NAMES = ["fastv", "recon"]


def row(method: str, percent: int, value: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"method": method, "pruned_percent": percent}
    for measure in ("l2", "collision", "intersection"):
        ends = {"": value, "_low": value and value - 1, "_high": value and value + 2}
        found |= {f"{measure}_minus_none{end}": number for end, number in ends.items()}
    return found


ROWS = [
    row("recon", 50, 3.0),
    row("recon", 25, 1.0),
    row("fastv", 25, 2.0),
    row("fastv", 50, None),
    row("none", 0, None),
]


def test_a_column_per_method_with_its_line_by_ratio_and_its_band() -> None:
    figure = against_ratio(ROWS, NAMES)
    assert len(figure.axes) == 6
    recon = figure.axes[1]
    line = recon.lines[-1]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([25, 50], [1.0, 3.0])
    (band,) = recon.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices} >= {(25, 0), (25, 3), (50, 2), (50, 5)}


def test_every_chart_is_the_same_bytes_twice_and_has_no_date() -> None:
    shares = {f"{what}_recall_50{end}": 0.5 for what in ("foreground", "object") for end in ("", "_low", "_high")}
    kept = [{"method": name, **shares} for name in NAMES]
    events = [{"event": "red", "method": name, "d": 0.1, "d_low": 0.2, "d_high": 0.3} for name in NAMES]
    charts = [
        lambda: against_ratio(ROWS, NAMES),
        lambda: kept_shares(kept, NAMES, [50]),
        lambda: by_event(events, NAMES, {"red": "red: 2 frames"}, "d"),  # beside its own interval: no obstacle
    ]
    for draw in charts:
        first, second = svg(draw()), svg(draw())
        assert first == second
        assert b"<dc:date>" not in first


def test_methods_stand_from_top_to_bottom_in_their_order() -> None:
    figure = by_event(
        [{"event": "red", "method": "recon", "d": 1, "d_low": 0, "d_high": 2}], NAMES, {"red": "red"}, "d"
    )
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert axes.get_ylim() == (1.5, -0.5)
