"""How a pruner's saliency spreads over training: a histogram per step. All in one bin is a collapse."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from stages.report.figures import STYLE, svg
from stages.report.page import Picture

Row = dict[str, Any]

COLUMN = "saliency"  # of history.csv: a step's counts of tokens in equal parts of sigmoid(S), as evaluation.histogram


def shares(history: Sequence[Row]) -> tuple[list[float], Float[np.ndarray, "bins steps"]]:
    """Steps and the share of tokens in each bin, lowest S first; none of a history that has no histogram."""
    rows = [row for row in history if row["split"] == "train" and isinstance(row.get(COLUMN), str)]
    if not rows:
        return [], np.empty((0, 0))
    counts = np.array([[float(cell) for cell in row[COLUMN].split()] for row in rows]).T
    return [row["step"] for row in rows], counts / np.maximum(1, counts.sum(axis=0))


def saliency_chart(history: Sequence[Row]) -> Figure | None:
    """Steps to the right, sigmoid(S) upwards, dark where many tokens are; None without a histogram."""
    steps, found = shares(history)
    if not steps:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 3.4), layout="constrained")
        axes = figure.subplots()
        edges = np.linspace(0, 1, found.shape[0] + 1)
        # cividis reads the same with and without colour vision
        mesh = axes.pcolormesh([*steps, steps[-1] + 1], edges, found, cmap="cividis", vmin=0, rasterized=True)
        axes.axhline(0.5, color="white", lw=1, ls="--")
        axes.set(xlabel="step", ylabel="sigmoid(S): above 0.5 is kept")
        axes.grid(visible=False)
        figure.colorbar(mesh, ax=axes, label="share of the batch's tokens")
        return figure


def saliency_pictures(name: str, history: Sequence[Row]) -> list[Picture]:
    """The chart as a picture; none where there is no histogram."""
    figure = saliency_chart(history)
    alt = f"Saliency of {name} over training: the share of tokens in each part of sigmoid(S), step by step"
    return [Picture(svg(figure), "svg+xml", alt, "saliency of the tokens of each step's batch")] if figure else []
