"""Accuracy against cost as a chart: two errors by three costs, the Pareto front of each drawn."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report.figures import BLACK, GREY, STYLE, colour_of, dash_of
from stages.report.tradeoff import COSTS, ERRORS, UNPRUNED, on_front

Row = dict[str, Any]


def tradeoff(rows: Sequence[Row], budget_ms: float | None) -> Figure:
    """`rows` of tradeoff.points; lines join the ratios of a method, vertical bars are 95 % intervals of the error.

    `budget_ms` is drawn where milliseconds are the cost. A cost that no row has is left out.
    """
    costs = [cost for cost in COSTS if any(row[cost] is not None for row in rows)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 8.6), layout="constrained")
        panels = figure.subplots(len(ERRORS), len(costs), squeeze=False, sharex="col", sharey="row")
        for line, (error, label) in zip(panels, ERRORS.items(), strict=True):
            for axes, cost in zip(line, costs, strict=True):
                _panel(axes, rows, cost, error)
                if cost == "ms" and budget_ms is not None:
                    axes.axvline(budget_ms, color=GREY, lw=1, ls=":", label="budget")
            line[0].set_ylabel(label)
        for axes, cost in zip(panels[-1], costs, strict=True):
            axes.set_xlabel(COSTS[cost].replace(", ", ",\n", 1))
        handles, labels = panels[0][-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)
        return figure


def _panel(axes: Axes, rows: Sequence[Row], cost: str, error: str) -> None:
    known = [row for row in rows if row[cost] is not None and row[error] is not None]
    looks = colour_of([name for name in dict.fromkeys(row["method"] for row in rows) if name != UNPRUNED])
    front = on_front(rows, cost, error)
    axes.plot([r[cost] for r in front], [r[error] for r in front], color=BLACK, lw=5, alpha=0.15, label="Pareto front")
    for i, (name, (colour, marker)) in enumerate({UNPRUNED: (BLACK, "*"), **looks}.items()):
        line = sorted((row for row in known if row["method"] == name), key=lambda row: row["pruned_percent"])
        if line:
            x, y = [row[cost] for row in line], [row[error] for row in line]
            spread = [  # of few frames an interval may lie beside the mean
                [max(0, row[error] - row[f"{error}_low"]) for row in line],
                [max(0, row[f"{error}_high"] - row[error]) for row in line],
            ]
            look: dict[str, Any] = {"color": colour, "marker": marker, "ls": dash_of(i - 1)}
            bars = axes.errorbar(x, y, spread, **look, ms=7, lw=1, elinewidth=0.6, label=name)
            for part in bars[2]:
                part.set_alpha(0.35)
    axes.plot(
        [r[cost] for r in front], [r[error] for r in front], ls="", marker="o", ms=13, mfc="none", mec=BLACK, mew=0.9
    )
