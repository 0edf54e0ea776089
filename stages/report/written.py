"""The tables as CSV, Markdown, LaTeX and HTML, and the numbers behind the charts for `dvc plots`. Pure."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

from stages.core.params import Grid
from stages.planning.tables import TABLE_1, TABLE_1_INTERVALS, to_csv, to_html, to_latex, to_markdown
from stages.report import held_out, paper
from stages.report import rows as tables
from stages.report.ablations import Tables
from stages.report.captions import Setting
from stages.report.driving import MINUS_COLUMNS, SHADES, shaded
from stages.report.inputs import Inputs
from stages.report.references import DRIVER_COLUMNS, EVENT_COLUMNS, RULER_COLUMNS, References

Row = dict[str, Any]

DRIVEN = {  # tables of the driver on the evaluation split: their captions say how they were made
    "table1": "Table 1: driving",
    "table1_intervals": "Table 1: intervals at each time",
    "table1_differences": "Table 1: paired differences to the unpruned driver",
    "table2": "Table 2: what training learns from",
    "table2_differences": "Table 2: paired differences to the main pruner",
    "table3": "Table 3: text attention",
    "table3_differences": "Table 3: paired differences to the main pruner",
    "driver": "The driver beside plans that do not see",
    "driver_events": "The driver by what shapes the next 3 s",
    "ruler": "The ruler",
    "tradeoff": "Accuracy against cost",
}
BESIDE = ("table1", "table2", "table3")  # the paper has them, too
MINUS_NONE, MINUS_MAIN = "{0}_minus_none", "{0}"
SHADED = {  # the difference that makes a cell grey or bold
    "table1": MINUS_NONE,
    "table1_differences": MINUS_NONE,
    "table2": MINUS_NONE,
    "table2_differences": MINUS_MAIN,
    "table3": MINUS_NONE,
    "table3_differences": MINUS_MAIN,
}
TRAINING_PLOT = ("step", "loss", "loss_fore", "loss_back", "keep_share")


def written_tables(
    inputs: Inputs, scores: Sequence[Row], references: References, more: Tables, setting: Setting
) -> dict[str, tuple[list[Row], dict[str, str]]]:
    """By name: rows with equal keys, and their text by suffix; `more` are rows and columns of further tables.

    `setting` ends the caption of each table of the driver. A table without rows is left out.
    """
    recalls = [row for row in scores if row.get("foreground_recall") is not None]
    found: dict[str, tuple[Sequence[Row], Mapping[str, str]]] = {
        "table1": (paper.beside(scores, paper.table(1) if setting.papers else []), TABLE_1),
        "table1_intervals": (_only(scores, TABLE_1_INTERVALS), TABLE_1_INTERVALS),
        "table1_differences": ([row for row in scores if row.get("minus_none_n")], MINUS_COLUMNS),
        "driver": (references.driver, DRIVER_COLUMNS),
        "driver_events": (references.events, EVENT_COLUMNS),
        "ruler": (references.ruler, RULER_COLUMNS),
        "driver_pool": (held_out.rows_of(inputs.driver, "sees"), held_out.SEES_COLUMNS),
        "driver_pool_events": (held_out.rows_of(inputs.driver, "events"), held_out.EVENTS_COLUMNS),
        "ruler_pool": (held_out.rows_of(inputs.driver, "pruned"), held_out.PRUNED_COLUMNS),
        "table4_flops": (tables.flops_rows(inputs.efficiency, "paper", 1e12), tables.FLOPS_COLUMNS),
        "table4_flops_driver": (tables.flops_rows(inputs.efficiency, "driver", 1e6), tables.FLOPS_COLUMNS),
        "table4_latency": (tables.latency_rows(inputs.latency), tables.LATENCY_COLUMNS),
        "recall": (recalls, tables.RECALL_COLUMNS),
        "masks": (tables.mask_rows(inputs.masks), tables.MASK_COLUMNS),
        **more,
    }
    written = {}
    for name, (rows, columns) in found.items():
        if rows:
            even = _even(rows)
            words = setting.beside if name in BESIDE else setting.words
            caption = f"{DRIVEN[name]}. {_shades(name)}{words}" if name in DRIVEN else ""
            printed = {"md": to_markdown, "tex": to_latex, "html": to_html}
            lines = shaded(even, columns, SHADED[name]) if name in SHADED else None
            texts = {suffix: to_text(even, columns, caption, lines) for suffix, to_text in printed.items()}
            written[name] = (even, {"csv": to_csv(even)} | texts)
    return written


def _only(rows: Sequence[Row], columns: Mapping[str, str]) -> list[Row]:
    """The values that the columns show."""
    names = [name for form in columns.values() for _, name, _, _ in string.Formatter().parse(form) if name]
    return [{name: row.get(name) for name in names} for row in rows]


def _shades(name: str) -> str:
    """What grey and bold say in a table of SHADED."""
    baselines = {MINUS_NONE: "the unpruned driver", MINUS_MAIN: "the main pruner"}
    return f"{SHADES.format(baseline=baselines[SHADED[name]])} " if name in SHADED else ""


def plots(inputs: Inputs, scores: Sequence[Row], grid: Grid) -> dict[str, str]:
    """CSV by file name: L2 over the prune ratio with a column per method, and what training came to, step by step.

    Losses of the first trained pruner in training.csv, the AUC of all on held-out images in training_auc.csv. L2 of
    methods with and without training lies in two files, because dvc.yaml names the columns by `${grid.pruners}` and
    `${grid.trained}`.
    """
    main = inputs.histories[grid.trained[0]] if grid.trained else []
    steps = [{key: row[key] for key in TRAINING_PLOT} for row in main if row["split"] == "train"]
    found = {
        "l2_by_ratio.csv": _l2_by_ratio(scores, grid.pruners, grid.percents),
        "l2_by_ratio_trained.csv": _l2_by_ratio(scores, grid.trained, grid.percents) if grid.trained else [],
        "training.csv": steps,
        "training_auc.csv": _held_out(inputs, "auc"),
    }
    return {name: to_csv(rows) for name, rows in found.items() if rows}


def _l2_by_ratio(scores: Sequence[Row], methods: Sequence[str], percents: Sequence[int]) -> list[Row]:
    """Average L2 in cm; every line starts at the unpruned driver's."""
    l2_cm = {(row["method"], row["pruned_percent"]): row["l2_cm_avg"] for row in scores}
    unpruned = l2_cm["none", 0]
    return [
        {"pruned_percent": percent, **{name: l2_cm.get((name, percent), unpruned) for name in methods}}
        for percent in (0, *percents)
    ]


def _held_out(inputs: Inputs, name: str) -> list[Row]:
    """A figure on held-out images over the steps, a column per trained pruner; None where one was not evaluated."""
    by_step: dict[float, Row] = {}
    for method, history in inputs.histories.items():
        for row in (row for row in history if row["split"] == "held_out"):
            by_step.setdefault(row["step"], {})[method] = row[name]
    return [{"step": step, **{m: by_step[step].get(m) for m in inputs.histories}} for step in sorted(by_step)]


def _even(rows: Sequence[Row]) -> list[Row]:
    """The rows with all keys of all of them, None where one lacks it."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in keys} for row in rows]
