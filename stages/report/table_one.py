"""Table 1 on the page: does it look, methods by prune ratio, bounds; differences to the unpruned driver; the chart."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.core.params import Grid
from stages.report import paper
from stages.report import rows as tables
from stages.report.bands import against_ratio
from stages.report.captions import Setting
from stages.report.comparisons import ELSEWHERE, measured
from stages.report.driving import MINUS_COLUMNS, SHADES, shaded
from stages.report.figures import l2_by_ratio, svg
from stages.report.look import LOOK, UNPRUNED
from stages.report.page import Gallery, Group, Picture, Section, Table

Row = dict[str, Any]

CAPTION = (
    "L2 in cm, Collision and Intersection in % (events in parentheses), at 1, 2, 3 s as the protocol takes them; 95 % "
    "intervals of the average by resampling scenes, of a rate without any event Wilson's of its 3 s rate. "
    "Rel. = 100 × unpruned / method over the three horizons: more is better."
)
INTERVALS = (
    "The same at each time with its 95 % interval: of L2 and of shares of steps by resampling scenes, "
    "of rates of events Wilson's."
)
MINUS = (
    "Method − unpruned, frame by frame on the same frames, means over 1, 2, 3 s: below 0 the method is better. 95 % "
    "intervals by resampling scenes."
)
BOUNDS = "Bounds: plans that look at no image"
LOOKS = "Does it look? The same driver with a black image, with another scene's, and the best guess without any"


def scores_section(grid: Grid, scores: Sequence[Row], setting: Setting) -> Section:
    """All of Table 1 from the rows of driving.py, the paper's among them or, in another setting, apart."""
    printed = paper.table(1)
    own = _groups(scores, grid)
    groups = {title: paper.beside(rows, printed if setting.papers else []) for title, rows in own.items()}
    shades = SHADES.format(baseline="the unpruned driver")
    blocks: list[Table | Gallery] = [
        measured(f"{CAPTION} {shades} {setting.beside}", groups, tables.SCORE_COLUMNS, "table1"),
        _differences(groups, shades),
        Gallery([_chart(scores, grid), _bands(scores, grid)]),
        measured(f"{INTERVALS} {setting.words}", own, tables.INTERVAL_COLUMNS, "table1_intervals"),
    ]
    if not setting.papers:
        theirs = {
            f"The paper's Table 1, {percent} % pruned" if percent else "The paper's Table 1, unpruned": [
                row for row in printed if row["pruned_percent"] == percent
            ]
            for percent in dict.fromkeys(row["pruned_percent"] for row in printed)
        }
        blocks.append(measured(ELSEWHERE, theirs, {"Method": "{method}", **paper.COLUMNS}))
    return Section("Table 1: driving", blocks)


def _groups(scores: Sequence[Row], grid: Grid) -> dict[str, list[Row]]:
    """Rows by title, in the order of the page; a group without rows is left out."""
    groups = {LOOKS: [row for row in scores if row["method"] in LOOK]}
    for percent in (0, *grid.percents):
        own = [row for row in scores if row["pruned_percent"] == percent and row["method"] not in (*LOOK, *grid.bounds)]
        groups |= {_kept(own[0]): own} if own else {}
    groups[BOUNDS] = [row for row in scores if row["method"] in grid.bounds and row["method"] not in LOOK]
    return {title: rows for title, rows in groups.items() if rows}


def _kept(row: Row) -> str:
    percent = row["pruned_percent"]
    return f"{percent} % pruned: {row['tokens_kept']} of {row['tokens_total']} tokens kept" if percent else "Unpruned"


def _differences(groups: Mapping[str, Sequence[Row]], shades: str) -> Table:
    forms = {heading: form for heading, form in MINUS_COLUMNS.items() if form != "{pruned_percent}"}
    known = {title: [row for row in rows if row.get("minus_none_n")] for title, rows in groups.items()}
    parts = [Group(shaded(rows, forms), title) for title, rows in known.items() if rows]
    return Table(f"{MINUS} {shades}", list(forms), parts, file="table1_differences")


def _chart(scores: Sequence[Row], grid: Grid) -> Picture:
    methods = [name for name in grid.methods if name != UNPRUNED]
    alt = f"Average L2 over the prune ratio for {', '.join(methods)}; the numbers are in the table above"
    chart = svg(l2_by_ratio(scores, methods, UNPRUNED))
    return Picture(chart, "svg+xml", alt, "L2 by prune ratio, with 95 % intervals")


def _bands(scores: Sequence[Row], grid: Grid) -> Picture:
    methods = [name for name in grid.methods if name != UNPRUNED]
    alt = "L2, Collision and Intersection minus the unpruned driver's over the prune ratio, a column per method"
    caption = (
        "The same against the unpruned driver, frame by frame: the line of a method with its band (95 % of paired "
        "resamples of scenes), all others pale. A band that holds the dashed line is noise."
    )
    return Picture(svg(against_ratio(scores, methods)), "svg+xml", alt, caption)
