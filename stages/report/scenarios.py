"""How each method drives by what shapes the next 3 s: a curve, a vehicle ahead, a crossing, a red light. Rows are pure.

L2 as in references.py: the mean of the errors at 1, 2 and 3 s, in metres; differences are paired by key frame.
"""

from collections.abc import Sequence
from typing import Any

from stages.core.params import Params
from stages.planning.tables import Clear, Noise, cells
from stages.report.ablations import Tables, compared_at
from stages.report.bands import by_event
from stages.report.figures import svg
from stages.report.page import Gallery, Group, Picture, Section, Table
from stages.report.references import Samples, paired, recorded

Row = dict[str, Any]

UNPRUNED = "none"
CAPTION = (
    "L2 by what shapes the next 3 s (drawn worlds say so), minus the unpruned driver's on the same key frames: below 0 "
    "is better. 95 % intervals by resampling scenes, of a single one its frames; of few scenes they are too narrow to "
    "lean on. Grey: includes 0. Bold: does not."
)
ALT = "L2 minus the unpruned driver's by event and method at {percent} % pruned; the numbers are in the table below"


def scenario_rows(samples: Samples, params: Params) -> list[Row]:
    """A row per event and method, ratios as `difference_<percent>`; none where no event is known."""
    grid, drawn = params.grid, (params.score_plans.resamples, params.score_plans.seed)
    unpruned = recorded(samples[UNPRUNED, 0])
    methods = [name for name in grid.methods if name != UNPRUNED]
    rows = []
    for event in sorted({row["event"] for row in unpruned} - {None}):
        theirs = [row for row in unpruned if row["event"] == event]
        about = {"event": event, "scenes": len({row["scene"] for row in theirs}), "n": len(theirs)}
        for name in methods:
            row = {**about, "method": name}
            for percent in grid.percents:
                ours = [row for row in recorded(samples[name, percent]) if row["event"] == event]
                found = paired(ours, theirs, *drawn)
                row |= {f"l2_{percent}": found.get("l2_m")}
                row |= {f"difference_{percent}{end}": found.get(f"difference_{key}") for end, key in ENDS.items()}
            rows.append(row)
    return rows


ENDS = {"": "m", "_low": "low", "_high": "high"}


def columns(percents: Sequence[int]) -> dict[str, str]:
    """Headings and formats."""
    difference = "{{difference_{0}:+.2f}} [{{difference_{0}_low:+.2f}}, {{difference_{0}_high:+.2f}}]"
    parts = {f"{p} %": (f"{{l2_{p}:.2f}}", difference.format(p)) for p in percents}
    found = {"Event": "{event}", "Method": "{method}", "N": "{n}", "Scenes": "{scenes}"}
    for title, (l2, minus) in parts.items():
        found |= {f"L2 (m), {title} pruned": l2, f"− unpruned [95 %], {title}": minus}
    return found


def scenario_sections(rows: Sequence[Row], percents: Sequence[int]) -> list[Section]:
    """Chart at the ratio that Tables 2 and 3 compare at, and the table of all; nothing where no event is known."""
    if not rows:
        return []
    at = compared_at(percents)
    names = list(dict.fromkeys(row["method"] for row in rows))
    titles = {row["event"]: f"{row['event']}: {row['n']} frames of {row['scenes']} scene(s)" for row in rows}
    chart = svg(by_event(rows, names, titles, f"difference_{at}"))
    picture = Picture(chart, "svg+xml", ALT.format(percent=at), f"{at} % pruned, with 95 % intervals")
    forms = {heading: form for heading, form in columns(percents).items() if form not in ("{event}", "{n}", "{scenes}")}
    groups = [Group(_shaded([row for row in rows if row["event"] == e], forms), title) for e, title in titles.items()]
    headings = [heading.removesuffix(" pruned").partition(", ")[0] for heading in forms]
    above = [("", 1), *((f"{percent} % pruned", 2) for percent in percents)]
    table = Table(CAPTION, headings, groups, above, file="scenarios")
    return [Section("By scenario", [Gallery([picture]), table])]


def _shaded(rows: Sequence[Row], forms: dict[str, str]) -> list[list[str]]:
    """The cells, differences marked as noise or as clear."""
    lines = []
    for row, line in zip(rows, cells(rows, forms), strict=True):
        keys = [form.partition(":")[0].removeprefix("{") for form in forms.values()]
        lines.append([_marked(text, row, key) for text, key in zip(line, keys, strict=True)])
    return lines


def _marked(text: str, row: Row, key: str) -> str:
    if not key.startswith("difference_") or row.get(key) is None:
        return text
    return Noise(text) if row[f"{key}_low"] <= 0 <= row[f"{key}_high"] else Clear(text)


def written(rows: Sequence[Row], percents: Sequence[int]) -> Tables:
    """The table for people and machines."""
    return {"scenarios": (list(rows), columns(percents))} if rows else {}
