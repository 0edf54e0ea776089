"""How methods rank and keep the drawn world's true foreground, and how the main pruner compares. Rows are pure.

Foreground tokens are road and objects; the row of a token alone finds road, so objects are told apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from stages.core.params import Masked, OracleBound, Params
from stages.planning.intervals import paired_difference
from stages.planning.scoring import AUCS, RECALLS
from stages.planning.tables import cells
from stages.report.ablations import Tables, compared_at
from stages.report.bands import kept_shares
from stages.report.figures import svg
from stages.report.page import Gallery, Group, Picture, Table, Words
from stages.report.references import Samples, shared

Row = dict[str, Any]
NAMES = {f"{name}_{what}": words for name, words in (("foreground", "foreground"), ("object", "objects"))
         for what in ("auc", "recall")}  # fmt: skip
CAPTION = (
    "Against the drawn world's truth, in the front image of each scored frame. AUC: the chance that a foreground token "
    "(road or object), or an object token, outscores a token that is none; a dash where a method selects without "
    "ranking. Kept: the share of these tokens kept. Means over frames, 95 % intervals by resampling scenes. The "
    "oracle takes a token for road from 5 % of its pixels on, this count from half of them: its foreground AUC may be "
    "below 1."
)
DIFFERENCES = (
    "{main} − method, frame by frame on the same frames: above 0 {main} is better. 95 % intervals by resampling scenes."
)


@dataclass(frozen=True)
class Ranking:
    """One row per method, and what the main trained pruner has over each other method."""

    percents: Sequence[int]
    methods: list[Row]
    rulers: list[Row]  # they read the truth, or the masks
    differences: list[Row]  # empty without a trained pruner


def ranking(samples: Samples, scores: Sequence[Row], params: Params) -> Ranking | None:
    """All rows; None where the truth is not known, so that no method has a recall."""
    grid, mine = params.grid, params.score_plans
    methods = [name for name in grid.methods if name != "none"]
    rulers = [name for name in grid.references if name in (*get_args(OracleBound), *get_args(Masked))]
    if all(row.get(name) is None for row in scores for name in RECALLS):
        return None
    rows = {name: method_row(name, [row for row in scores if row["method"] == name]) for name in [*methods, *rulers]}
    main, drawn = grid.trained[0] if grid.trained else None, (mine.resamples, mine.seed)
    differences = [
        {"method": name, "main": main, **differences_row(samples, main, name, grid.percents, *drawn)}
        for name in methods
        if main is not None and name != main
    ]
    return Ranking(grid.percents, [rows[n] for n in methods], [rows[n] for n in rulers], differences)


def method_row(name: str, scores: Sequence[Row]) -> Row:
    """AUCs of a method, the same at each ratio, and its recalls as `<recall>_<percent>`, each with its interval."""
    lowest = min(scores, key=lambda row: row["pruned_percent"])
    row: Row = {"method": name, "n": lowest["n"]}
    for end in ("", "_low", "_high"):
        row |= {f"{auc}{end}": lowest.get(f"{auc}{end}") for auc in AUCS}
        for at in scores:
            row |= {f"{recall}_{at['pruned_percent']}{end}": at.get(f"{recall}{end}") for recall in RECALLS}
    return row


def differences_row(samples: Samples, main: str, name: str, percents: Sequence[int], *drawn: int) -> Row:
    """`main - name` of AUCs and of recalls at each ratio, with intervals; None where the two share no frame with it.

    `drawn`: resamples and seed.
    """
    measures = {auc: (auc, min(percents)) for auc in AUCS}
    measures |= {f"{recall}_{percent}": (recall, percent) for percent in percents for recall in RECALLS}
    row: Row = {}
    for measure, (column, percent) in measures.items():
        ours, theirs = (_known(samples[method, percent], column) for method in (main, name))
        ours, theirs = shared(ours, theirs)
        found: Sequence[float | None] = (None, None, None)
        if ours:
            mine, others = (np.array([sample[column] for sample in part], float) for part in (ours, theirs))
            found = paired_difference(mine, others, [sample["scene"] for sample in ours], *drawn)
        row |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), found, strict=True))
    return row


def _known(samples: Sequence[Row], column: str) -> list[Row]:
    return [sample for sample in samples if sample.get(column) is not None]


def columns(percents: Sequence[int], sign: str = "") -> dict[str, str]:
    """Headings and formats of both tables; `sign` is + for differences."""
    titles = {auc: f"AUC {NAMES[auc]}" for auc in AUCS}
    titles |= {f"{recall}_{p}": f"{NAMES[recall]} kept, {p} % pruned" for p in percents for recall in RECALLS}
    parts = {key: [f"{{{key}{end}:{sign}.3f}}" for end in ("", "_low", "_high")] for key in titles}
    return {f"{title} [95 %]": "{} [{}, {}]".format(*parts[key]) for key, title in titles.items()}


def blocks(found: Ranking | None) -> list[Gallery | Table | Words]:
    """What the section on foreground says of methods."""
    if found is None:
        return []
    shown: list[Gallery | Table | Words] = [
        Gallery([_chart(found)]),
        _table(CAPTION, "Method", {"Methods": found.methods, "Rulers": found.rulers}, found, file="ranking"),
    ]
    if found.differences:
        main = found.differences[0]["main"]
        pair = {"": found.differences}
        shown.append(
            _table(DIFFERENCES.format(main=main), f"{main} −", pair, found, sign="+", file="ranking_differences")
        )
        shown.append(Words(in_words(found.differences, compared_at(found.percents))))
    return shown


def _chart(found: Ranking) -> Picture:
    names = [row["method"] for row in [*found.methods, *found.rulers]]
    chart = svg(kept_shares([*found.methods, *found.rulers], names, found.percents))
    alt = f"Share of true foreground and of objects kept by {', '.join(names)}; the numbers are in the table below"
    return Picture(chart, "svg+xml", alt, "What is kept, with 95 % intervals")


def _table(
    caption: str, first: str, groups: Mapping[str, Sequence[Row]], found: Ranking, *, sign: str = "", file: str
) -> Table:
    forms = {first: "{method}", **columns(found.percents, sign)}
    broken = {heading: form.replace(" [", "\n[") for heading, form in forms.items()}
    above = [("", 1), ("AUC", 2), *((f"kept, {percent} % pruned", 2) for percent in found.percents)]
    names = [first, *(NAMES[name] for name in (*AUCS, *RECALLS * len(found.percents)))]
    return Table(
        caption, names, [Group(cells(rows, broken), title) for title, rows in groups.items() if rows], above, file=file
    )


def in_words(differences: Sequence[Row], percent: int) -> str:
    """Whom the main pruner beats with its whole interval, whom it does not, and who does not rank, by the numbers."""
    main = differences[0]["main"]
    measures = {auc: f"In AUC of {NAMES[auc]}" for auc in AUCS}
    measures |= {f"{recall}_{percent}": f"In {NAMES[recall]} kept at {percent} % pruned" for recall in RECALLS}
    return " ".join(f"{title}, {main} is {_verdict(differences, key)}." for key, title in measures.items())


def _verdict(differences: Sequence[Row], key: str) -> str:
    known = [row for row in differences if row[key] is not None]
    sides = {
        "above": [row["method"] for row in known if row[f"{key}_low"] > 0],
        "not told apart from": [row["method"] for row in known if row[f"{key}_low"] <= 0 <= row[f"{key}_high"]],
        "below": [row["method"] for row in known if row[f"{key}_high"] < 0],
    }
    parts = [f"{side} {', '.join(names)}" for side, names in sides.items() if names]
    return "; ".join(parts) if parts else "measured against none"


def written(found: Ranking | None) -> Tables:
    """Both tables, for people and machines; none without the truth."""
    if found is None:
        return {}
    tables: Tables = {"ranking": ([*found.methods, *found.rulers], {"Method": "{method}", **columns(found.percents)})}
    if found.differences:
        pair = {"Difference": "{main} − {method}", **columns(found.percents, "+")}
        tables["ranking_differences"] = (found.differences, pair)
    return tables
