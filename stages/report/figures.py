"""Charts as SVG, the same bytes for the same numbers: no date, no random ids, letters as paths.

Colours are Okabe and Ito's, told apart by colour-blind readers; every line has a marker of its own besides.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report.costs import COSTS, ERRORS, UNPRUNED

Row = Mapping[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")  # eleven, so that six colours repeat with others
BLACK, GREY, PALE = "#000000", "#767676", "#c4c4c4"
STYLE: Any = {
    "svg.hashsalt": "fastdrive",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    # matplotlib's own defaults: the devkit's dependencies change them for the whole process
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), BLACK),
}


def svg(figure: Figure) -> bytes:
    """Return the figure as an SVG file."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@contextmanager
def panels(rows: int, columns: int, height: float, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure as wide as the page with an array of axes, in our style."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)


def look_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour, marker and dash of each method: the same in every chart that is given the same names."""
    looks = zip(names, cycle(COLOURS), cycle(MARKERS), strict=False)
    found = {name: {"color": colour, "marker": marker, "ls": "-"} for name, colour, marker in looks}
    for name in names[len(COLOURS) :]:  # a colour that comes back
        found[name]["ls"] = "--"
    return found


def _bars(rows: Sequence[Row], key: str) -> list[list[float]]:
    """Distances from the value to both ends of its interval; of few frames it may lie beside the mean."""
    low = [max(0.0, row[key] - row[f"{key}_low"]) for row in rows]
    return [low, [max(0.0, row[f"{key}_high"] - row[key]) for row in rows]]


def _line(rows: Sequence[Row], name: str, key: str) -> list[Row]:
    """The rows of a method that have `key`, by ratio."""
    known = (row for row in rows if row["method"] == name and row.get(key) is not None)
    return sorted(known, key=lambda row: row["pruned_percent"])


def l2_by_ratio(rows: Sequence[Row], names: Sequence[str]) -> Figure:
    """Average L2 over the prune ratio, a line per method; all start at the unpruned. Ten bands would hide the lines."""
    key = "l2_cm_avg"
    unpruned = _line(rows, UNPRUNED, key)
    with panels(1, 1, 5.0) as (figure, ((axes,),)):
        for row in unpruned:
            axes.axhline(row[key], color=BLACK, lw=1, ls="--", label="unpruned")
        for name, look in look_of(names).items():
            x, y = ([row[k] for row in unpruned + _line(rows, name, key)] for k in ("pruned_percent", key))
            axes.plot(x, y, **look, ms=5, lw=1.8, label=name)
        axes.set(xlabel="visual tokens pruned (%)", ylabel=ERRORS[key])
        axes.set_xticks(sorted({row["pruned_percent"] for row in rows}))
        figure.legend(loc="outside right upper")
        return figure


def against_ratio(rows: Sequence[Row], names: Sequence[str]) -> Figure:
    """Paired differences to the unpruned driver over the ratio: a column per method, the others pale behind it."""
    labels = {"l2": "L2 − unpruned\n(cm)", "collision": "Collision − unpruned\n(points)"}
    labels["intersection"] = "Intersection − unpruned\n(points)"
    with panels(len(labels), len(names), 6.6, sharex=True, sharey="row") as (figure, grid):
        for line, (measure, label) in zip(grid, labels.items(), strict=True):
            key = f"{measure}_minus_none"
            lines = {name: _line(rows, name, key) for name in names}
            for axes, (name, look) in zip(line, look_of(names).items(), strict=True):
                for other in lines.values():
                    axes.plot([r["pruned_percent"] for r in other], [r[key] for r in other], color=PALE, lw=0.7)
                axes.axhline(0, color=BLACK, lw=0.8, ls="--")
                ends = ("pruned_percent", key, f"{key}_low", f"{key}_high")
                x, y, low, high = ([row[end] for row in lines[name]] for end in ends)
                axes.fill_between(x, low, high, color=look["color"], alpha=0.3, lw=0)
                axes.plot(x, y, **look | {"ls": "-"}, ms=5, lw=1.8)
            line[0].set_ylabel(label)
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(name.replace("_", "\n", 1), fontsize=9)
            axes.set_xticks(sorted({row["pruned_percent"] for row in rows if row["method"] in names}))
        figure.supxlabel("visual tokens pruned (%)", fontsize=10)
        return figure


def tradeoff(rows: Sequence[Row]) -> Figure:
    """Two errors by three costs; lines join the ratios of a method."""
    costs = [cost for cost in COSTS if any(row[cost] is not None for row in rows)]
    names = [UNPRUNED, *(name for name in dict.fromkeys(row["method"] for row in rows) if name != UNPRUNED)]
    looks = {UNPRUNED: {"color": BLACK, "marker": "*", "ls": "-"}, **look_of(names[1:])}
    with panels(len(ERRORS), len(costs), 8.6, sharex="col", sharey="row") as (figure, grid):
        for line, (error, label) in zip(grid, ERRORS.items(), strict=True):
            for axes, cost in zip(line, costs, strict=True):
                for name, look in looks.items():
                    own = [row for row in _line(rows, name, error) if row[cost] is not None]
                    if own:
                        points = [r[cost] for r in own], [r[error] for r in own]
                        bars = axes.errorbar(*points, _bars(own, error), **look, label=name, ms=7, lw=1, elinewidth=0.6)
                        for part in bars[2]:
                            part.set_alpha(0.35)
            line[0].set_ylabel(label)
        for axes, cost in zip(grid[-1], costs, strict=True):
            axes.set_xlabel(COSTS[cost].replace(", ", ",\n", 1))
        figure.legend(*grid[0][-1].get_legend_handles_labels(), loc="outside lower center", ncols=6)
        return figure


def training_curves(history: pd.DataFrame, loss: str) -> Figure:
    """Losses of both branches (`loss` is their axis), what the mask keeps and finds, and where saliency lies.

    Training is a thin line, held-out images are points joined by a dashed line. The histogram of sigmoid(S) shows a
    collapse: all tokens in one bin.
    """
    steps, shares = saliency_shares(history)
    with panels(1, 3 if len(steps) else 2, 4.4) as (figure, ((left, right, *last),)):
        for i, name in enumerate(("fore", "back")):
            _both_splits(left, history, f"loss_{name}", f"{name}ground", COLOURS[i])
        _both_splits(right, history, "keep_share", "share of tokens with S > 0", COLOURS[2])
        _both_splits(right, history, "auc", "AUC of S for foreground", COLOURS[3])
        _both_splits(right, history, "auc_row_prior", "AUC of the row prior", GREY)
        left.set(xlabel="step", ylabel=loss, ylim=(0, None))
        right.set(xlabel="step", ylim=(0, 1.02))
        for axes in (left, right):
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=1, fontsize=8.5)
        for axes in last:
            edges = np.linspace(0, 1, len(shares) + 1)
            mesh = axes.pcolormesh([*steps, steps[-1] + 1], edges, shares, cmap="cividis", vmin=0, rasterized=True)
            axes.axhline(0.5, color="white", lw=1, ls="--")
            axes.set(xlabel="step", ylabel="sigmoid(S): above 0.5 is kept")
            axes.grid(visible=False)
            figure.colorbar(mesh, ax=axes, label="share of the batch's tokens", location="bottom")
        return figure


def _both_splits(axes: Axes, history: pd.DataFrame, name: str, label: str, colour: str) -> None:
    if name not in history:
        return
    points: dict[str, Any] = {"ls": "--", "marker": "o", "ms": 5, "label": f"{label}, held out"}
    for split, look in {"train": {"alpha": 0.6, "lw": 1, "label": label}, "held_out": points}.items():
        known = history[history["split"] == split].dropna(subset=[name])
        if len(known):
            axes.plot(known["step"], known[name], color=colour, **look)


def saliency_shares(history: pd.DataFrame) -> tuple[list[float], np.ndarray]:
    """Return steps and the share of tokens in each bin of sigmoid(S), (bins, steps); empty without a histogram."""
    if "saliency" not in history:
        return [], np.empty((0, 0))
    rows = history[(history["split"] == "train") & history["saliency"].notna()]
    counts = np.array([[float(cell) for cell in str(text).split()] for text in rows["saliency"]]).T
    return rows["step"].tolist(), counts / np.maximum(1, counts.sum(axis=0)) if len(rows) else counts
