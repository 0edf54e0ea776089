"""Charts as SVG, the same bytes for the same numbers: no date, no random ids, letters as paths.

Colours are Okabe and Ito's, told apart by colour-blind readers; every line has a marker of its own besides.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = Mapping[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")  # eleven, so that six colours repeat with others
BLACK, GREY = "#000000", "#767676"
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
    # Said, though they are matplotlib's own: the devkit's dependencies change them for the whole process.
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), BLACK),
}


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def colour_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method: the same in every chart that is given the same names."""
    return {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def dash_of(index: int) -> str:
    """Line style of the method at a place in the order of `colour_of`: dashed where its colour comes back."""
    return "-" if index < len(COLOURS) else "--"


def training_curves(history: Sequence[Row], loss: str) -> Figure:
    """Losses of both branches (`loss` says which), and what the mask keeps and finds, over the steps of training."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, label, colour in (("loss_fore", "foreground", COLOURS[0]), ("loss_back", "background", COLOURS[1])):
            _both_splits(left, history, name, label, colour)
        _both_splits(right, history, "keep_share", "share of tokens with S > 0", COLOURS[2])
        _both_splits(right, history, "auc", "AUC of S for foreground", COLOURS[3])
        _both_splits(right, history, "auc_row_prior", "AUC of the row prior", GREY)
        left.set(xlabel="step", ylabel=loss, ylim=(0, None))
        right.set(xlabel="step", ylim=(0, 1.02))
        for axes in (left, right):
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
        return figure


def _both_splits(axes: Axes, history: Sequence[Row], name: str, label: str, colour: str) -> None:
    """Training as a thin line, held-out images as points joined by a dashed line."""
    train, held_out = (
        [row for row in history if row["split"] == split and row.get(name) is not None]
        for split in ("train", "held_out")
    )
    if train:
        axes.plot([r["step"] for r in train], [r[name] for r in train], color=colour, alpha=0.6, lw=1, label=label)
    if held_out:
        points = [r["step"] for r in held_out], [r[name] for r in held_out]
        axes.plot(*points, color=colour, ls="--", marker="o", ms=5, label=f"{label}, held out")


def l2_by_ratio(rows: Sequence[Row], names: Sequence[str], unpruned: str) -> Figure:
    """Average L2 with its 95 % interval over the prune ratio, one line per method; the unpruned driver as a band.

    Rows of which nothing was scored have no point.
    """
    rows = [row for row in rows if row["l2_cm_avg"] is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        axes = figure.subplots()
        for row in (row for row in rows if row["method"] == unpruned):
            axes.axhspan(row["l2_cm_avg_low"], row["l2_cm_avg_high"], color=GREY, alpha=0.15, lw=0)
            axes.axhline(row["l2_cm_avg"], color=BLACK, lw=1, ls="--", label="unpruned, with its interval")
        for i, (name, (colour, marker)) in enumerate(colour_of(names).items()):
            line = [row for row in rows if row["method"] == name]
            x = [row["pruned_percent"] + 0.5 * (i - (len(names) - 1) / 2) for row in line]
            y = np.array([row["l2_cm_avg"] for row in line])
            ends = np.array([[row["l2_cm_avg_low"], row["l2_cm_avg_high"]] for row in line]).reshape(-1, 2).T
            errors = np.abs(ends - y)
            axes.errorbar(x, y, errors, color=colour, marker=marker, ms=6, lw=1.5, ls=dash_of(i), capsize=3, label=name)
        axes.set(xlabel="visual tokens pruned (%)", ylabel="L2, mean of 1, 2, 3 s (cm)")
        axes.set_xticks(sorted({row["pruned_percent"] for row in rows if row["method"] in names}))
        figure.legend(loc="outside right upper")
        return figure


PARTS = {
    "vision": "vision tower",
    "pruner": "pruner",
    "llm_linears": "decoder, linear layers",
    "llm_attention": "decoder, attention",
}


def flops_bars(rows: Sequence[Row]) -> Figure:
    """TFLOPs by part, a bar per row (`label` and the components of `flops`)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 1 + 0.45 * len(rows)), layout="constrained")
        axes = figure.subplots()
        left = np.zeros(len(rows))
        hatches = ("", "///", "", "...")
        for (part, label), colour, hatch in zip(PARTS.items(), COLOURS, hatches, strict=False):
            width = np.array([row["flops"][part] / 1e12 for row in rows])
            axes.barh(range(len(rows)), width, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
            left += width
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axes.set(xlabel="TFLOPs (2 per multiply-add) until the first answer token")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=len(PARTS))
        return figure
