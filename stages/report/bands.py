"""Charts of each method against the unpruned driver and the truth: small panels, so that every band stays readable."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report.figures import BLACK, COLOURS, GREY, STYLE, colour_of

Row = dict[str, Any]

PALE = "#c4c4c4"
MEASURES = {
    "l2_minus_none": "L2 − unpruned\n(cm)",
    "collision_minus_none": "Collision − unpruned\n(points)",
    "intersection_minus_none": "Intersection − unpruned\n(points)",
}


def against_ratio(rows: Sequence[Row], names: Sequence[str]) -> Figure:
    """Paired differences to the unpruned driver over the prune ratio: a column per method, the others pale behind it.

    The band is the 95 % interval of resampled scenes. Rows without a difference have no point.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 6.6), layout="constrained")
        panels = figure.subplots(len(MEASURES), len(names), squeeze=False, sharex=True, sharey="row")
        for line, (measure, label) in zip(panels, MEASURES.items(), strict=True):
            for axes, (name, (colour, marker)) in zip(line, colour_of(names).items(), strict=True):
                for other in names:
                    axes.plot(*_points(rows, other, measure)[:2], color=PALE, lw=0.7, zorder=1)
                x, y, low, high = _points(rows, name, measure)
                axes.axhline(0, color=BLACK, lw=0.8, ls="--")
                axes.fill_between(x, low, high, color=colour, alpha=0.3, lw=0)
                axes.plot(x, y, color=colour, marker=marker, ms=5, lw=1.8)
            line[0].set_ylabel(label)
        for axes, name in zip(panels[0], names, strict=True):
            axes.set_title(name.replace("_", "\n", 1), fontsize=9)
            axes.set_xticks(sorted({row["pruned_percent"] for row in rows if row["method"] in names}))
        figure.supxlabel("visual tokens pruned (%)", fontsize=10)
        return figure


def _points(rows: Sequence[Row], name: str, measure: str) -> tuple[list[Any], ...]:
    """Ratio, value, low, high of a method, by ratio."""
    line = [row for row in rows if row["method"] == name and row.get(measure) is not None]
    line.sort(key=lambda row: row["pruned_percent"])
    keys = ("pruned_percent", measure, f"{measure}_low", f"{measure}_high")
    return tuple([row[key] for row in line] for key in keys)


def kept_shares(rows: Sequence[Row], names: Sequence[str], percents: Sequence[int]) -> Figure:
    """What each method keeps of the true foreground and of objects, a panel per ratio; rows as of ranking.method_row.

    The dotted line is the share of all tokens that is kept: a method left of it prefers what is no foreground.
    """
    looks = {
        "foreground_recall": ("foreground", COLOURS[0], "o", -0.14),
        "object_recall": ("objects", COLOURS[1], "D", 0.14),
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 1.4 + 0.34 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(percents), squeeze=False, sharey=True)[0]
        for axes, percent in zip(panels, percents, strict=True):
            for key, (label, colour, marker, aside) in looks.items():
                look = {"color": colour, "marker": marker, "label": label}
                dots(axes, [row | {"at": names.index(row["method"]) + aside} for row in rows], f"{key}_{percent}", look)
            axes.axvline(1 - percent / 100, color=GREY, lw=1.2, ls=":", label="share of all tokens kept")
            axes.set(title=f"{percent} % pruned", xlim=(0, 1.02), xlabel="share kept")
        _name_rows(panels[0], names)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure


def by_event(rows: Sequence[Row], names: Sequence[str], titles: Mapping[str, str], key: str) -> Figure:
    """`key` (with `_low`, `_high`) of each method, a panel per event of `titles`; left of the dashed line is better."""
    across = min(4, len(titles))
    down = -(-len(titles) // across)
    looks = colour_of(names)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 0.8 + down * (0.9 + 0.22 * len(names))), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes in panels.flat[len(titles) :]:
            axes.set_visible(False)
        for axes, (event, title) in zip(panels.flat, titles.items(), strict=False):
            for row in (row for row in rows if row["event"] == event):
                colour, marker = looks[row["method"]]
                dots(axes, [row | {"at": names.index(row["method"])}], key, {"color": colour, "marker": marker})
            axes.axvline(0, color=BLACK, lw=0.8, ls="--")
            axes.set_title(title, fontsize=9)
        for line in panels:
            _name_rows(line[0], names)
        figure.supxlabel("L2 − unpruned (m), with 95 % interval", fontsize=10)
        return figure


def dots(axes: Axes, rows: Sequence[Row], key: str, look: Mapping[str, Any]) -> None:
    """A point with its interval at height `at` of each row that has `key`."""
    known = [row for row in rows if row.get(key) is not None]
    x, at = [row[key] for row in known], [row["at"] for row in known]
    ends = [
        [max(0, row[key] - row[f"{key}_low"]) for row in known],
        [max(0, row[f"{key}_high"] - row[key]) for row in known],
    ]
    axes.errorbar(x, at, xerr=ends, ls="", ms=5, lw=1.2, capsize=2, **look)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Methods from top to bottom."""
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
