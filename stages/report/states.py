"""Two states of the results set side by side: what a state is, and the rows that both have. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.report.ablations import difference
from stages.report.made import Made

Row = dict[str, Any]
Cell = tuple[str, int]  # method, prune ratio

MEASURES = {"l2": "l2_cm_avg", "collision": "collision_pct_avg", "intersection": "intersection_pct_avg"}


@dataclass(frozen=True)
class State:
    """What a commit or a pipeline run of MLflow says of its results."""

    name: str  # as it was asked for
    about: Mapping[str, str]  # what a reader should know of it: kind, commit, date
    rows: Mapping[Cell, Row]  # averages of MEASURES and n
    params: Mapping[str, str]  # dotted key -> text
    hashes: Mapping[str, str]  # path of an output -> DVC's md5
    commit: str = ""
    tflops: Mapping[Cell, float] = field(default_factory=dict)  # of the language model and choosing, paper's shapes
    samples: Mapping[Cell, Sequence[Row]] = field(default_factory=dict)  # scores of each sample, where at hand
    made: Made = field(default_factory=Made)  # the page of results and its tables, where at hand


@dataclass(frozen=True)
class Change:
    """A name with its value in both states; None where one has none."""

    name: str
    a: str | None
    b: str | None


def changes(a: Mapping[str, str], b: Mapping[str, str]) -> list[Change]:
    """The names whose values differ, in the order of the alphabet."""
    return [Change(key, a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)]


def paired_rows(a: State, b: State, resamples: int, seed: int) -> list[Row]:
    """A row for each (method, prune ratio) of either state: values in both, B − A, and its interval where it is known.

    With per-sample scores of both the difference is over the samples that both have, each by itself, resampled by
    scene; else it is that of the averages and has no interval. `n` counts the paired samples.
    """
    cells = sorted({*a.rows, *b.rows}, key=lambda cell: (cell[1], cell[0]))
    return [_paired(a, b, cell, resamples, seed) for cell in cells]


def _paired(a: State, b: State, cell: Cell, resamples: int, seed: int) -> Row:
    mine, theirs = a.rows.get(cell, {}), b.rows.get(cell, {})
    row: Row = {"method": cell[0], "pruned_percent": cell[1], "n_a": mine.get("n"), "n_b": theirs.get("n")}
    row |= {"tflops_a": a.tflops.get(cell), "tflops_b": b.tflops.get(cell)}
    known = cell in a.samples and cell in b.samples
    paired = difference(b.samples[cell], a.samples[cell], resamples, seed) if known else {"n": None}
    row["n"] = paired["n"] or None
    for name, column in MEASURES.items():
        first, second = mine.get(column), theirs.get(column)
        row |= {f"{name}_a": first, f"{name}_b": second}
        if name in paired:
            row |= {f"{name}{end}": paired[f"{name}{end}"] for end in ("", "_low", "_high", "_same")}
        elif first is not None and second is not None and not known:
            row[name] = second - first
    return row


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Rows that a measure tells apart from chance, the largest change of L2 first."""
    clear = [row for row in rows if any(_is_clear(row, name) for name in MEASURES)]
    return sorted(clear, key=lambda row: -abs(row.get("l2") or 0.0))


def _is_clear(row: Row, name: str) -> bool:
    return row.get(f"{name}_low") is not None and not row[f"{name}_low"] <= 0 <= row[f"{name}_high"]
