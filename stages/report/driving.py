"""Rows of Table 1: first what the driver does without the image, then methods, each set against the unpruned driver.

Pure. Differences are paired by sample; one whose interval includes 0 is noise as far as these samples can tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.core.params import Params
from stages.planning.tables import Clear, Noise, cells, table_1
from stages.report.ablations import MEASURES, difference
from stages.report.look import LOOK, UNPRUNED
from stages.report.references import Samples

Row = dict[str, Any]

FIRST = ("method", "pruned_percent", "tokens_kept", "tokens_total", "n", "scenes")  # columns that say what a row is
_MINUS = "{{{0}_minus_none:+.2f}} [{{{0}_minus_none_low:+.2f}}, {{{0}_minus_none_high:+.2f}}]"
MINUS_COLUMNS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "N": "{minus_none_n}",
    "L2 avg. (cm) [95 %]": _MINUS.format("l2"),
    "Collision avg. (points) [95 %]": _MINUS.format("collision"),
    "Intersection avg. (points) [95 %]": _MINUS.format("intersection"),
}
SHADES = (
    "Grey: the 95 % interval of the paired difference to {baseline} includes 0, these frames do not tell the two "
    "apart. Bold: it does not include 0."
)


def driving_rows(samples: Samples, scores: Sequence[Row], params: Params) -> list[Row]:
    """All rows with Rel. and the difference to the unpruned driver as `<measure>_minus_none` with its interval.

    Order: controls of LOOK, the unpruned driver, methods by prune ratio in the order of the grid, bounds.
    """
    mine = params.score_plans
    rows = []
    for row in sorted(table_1(scores), key=lambda row: _place(row, params)):
        found: Row = {key: row.get(key) for key in FIRST} | row
        cell = (row["method"], row["pruned_percent"])
        if cell != (UNPRUNED, 0):
            minus = difference(samples[cell], samples[UNPRUNED, 0], mine.resamples, mine.seed)
            found |= {"minus_none_n": minus["n"]}
            for name in MEASURES:
                found |= {f"{name}_minus_none{end}": minus.get(f"{name}{end}") for end in ("", "_low", "_high")}
        rows.append(found)
    return rows


def _place(row: Row, params: Params) -> tuple[int, int]:
    name = row["method"]
    if name in LOOK:
        return 0, LOOK.index(name)
    return (2, 0) if name in params.grid.bounds else (1, row["pruned_percent"])


def without_rulers(rows: Sequence[Row], params: Params) -> list[Row]:
    """The rows of Table 1: those that read the truth or the masks are no methods."""
    rulers = {name for name in params.grid.references if name not in LOOK}
    return [row for row in rows if row["method"] not in rulers]


def shaded(rows: Sequence[Row], columns: Mapping[str, str], key: str = "{0}_minus_none") -> list[list[str]]:
    """The cells, averages, Rel. and differences of each measure marked as noise or as clear; `key` names the
    difference that decides."""
    lines = []
    for row, line in zip(rows, cells(rows, columns), strict=True):
        marked = zip(columns, line, strict=True)
        lines.append([_marked(text, _is_noise(row, heading, key)) for heading, text in marked])
    return lines


def _is_noise(row: Row, heading: str, key: str) -> bool | None:
    """None where the column is no average or the row has no difference."""
    measure, what = heading.split(" ")[0].lower(), heading.partition(" ")[2]
    name = key.format(measure)
    if not what.startswith(("avg.", "rel.")) or row.get(name) is None:
        return None
    return bool(row[f"{name}_low"] <= 0 <= row[f"{name}_high"])


def _marked(text: str, noise: bool | None) -> str:
    return text if noise is None else Noise(text) if noise else Clear(text)
