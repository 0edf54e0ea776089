"""Tables: rows of numbers, how people see each column, and their files (CSV, Markdown, LaTeX)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.planning.tables import absent, cell, fields
from stages.report.page import Group, Table

Row = Mapping[str, Any]

GREY_AND_BOLD = "Grey: the 95 % interval of the paired difference includes 0. Bold: it does not."


class Noise(str):
    """A grey cell: the interval of its difference includes 0."""

    tone = "noise"


class Clear(str):
    """A bold cell: the interval of its difference does not include 0."""

    tone = "clear"


@dataclass(frozen=True)
class Sheet:
    """One table of the report. Its CSV has every value of the rows, people see `columns`.

    `columns` maps a heading to a format of a row's values; `L2 (cm) | 1 s` stands under a common heading. Cells of
    differences with an interval are shaded; with `shade` also averages and Rel., by the difference that it names
    (`{0}_minus_none`, filled with l2, collision or intersection).
    """

    caption: str
    rows: Sequence[Row]
    columns: Mapping[str, str]
    shade: str = ""


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the rows as a DataFrame whose values keep their types."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return pd.DataFrame([[row.get(key) for key in keys] for row in rows], columns=keys, dtype=object)


def exported(sheet: Sheet) -> dict[str, str]:
    """Return the table as text by suffix: csv, md and tex."""
    heads = [heading.replace(" | ", " ") for heading in sheet.columns]
    shown = pd.DataFrame(cells(sheet.rows, sheet.columns, sheet.shade), columns=heads, dtype=object)
    bold = shown.map(lambda cell: f"**{cell}**" if isinstance(cell, Clear) else str(cell))
    styles = {"noise": "color: gray", "clear": "font-weight: bold"}
    styler = shown.style.hide(axis="index").map(lambda cell: styles.get(getattr(cell, "tone", ""), ""))
    styler = styler.format(escape="latex").format_index(escape="latex", axis=1)
    escaped: dict[str, str | int | None] = {sign: f"\\{sign}" for sign in "&%$#_{}"}
    caption = sheet.caption.translate(str.maketrans(escaped))
    return {
        "csv": frame_of(sheet.rows).to_csv(index=False),
        "md": f"{bold.to_markdown(index=False, disable_numparse=True)}\n\n{sheet.caption}\n",
        "tex": styler.to_latex(hrules=True, convert_css=True, caption=caption),
    }


def block(
    sheet: Sheet,
    file: str = "",
    parts: Mapping[str, Sequence[Row]] | None = None,
    hide: Sequence[str] = (),
    stacked: bool = False,
) -> Table:
    """Return the table for the page: `parts` are its rows by title, `hide` columns that the titles make superfluous.

    `stacked` puts intervals and counts on a second line, for wide tables.
    """
    columns = {heading: form for heading, form in sheet.columns.items() if heading not in hide}
    pairs = [heading.split(" | ") if " | " in heading else ("", heading) for heading in columns]
    above: list[tuple[str, int]] = []
    for span, _ in pairs:
        last = above.pop() if above and above[-1][0] == span else (span, 0)
        above.append((span, last[1] + 1))
    if stacked:
        columns = {head: form.replace(" [", "\n[").replace(" (", "\n(") for head, form in columns.items()}
    parts = {"": sheet.rows} if parts is None else parts
    groups = [Group(cells(rows, columns, sheet.shade), title) for title, rows in parts.items() if rows]
    return Table(sheet.caption, [name for _, name in pairs], groups, above if len(above) > 1 else (), file=file)


def by_ratio(sheet: Sheet, file: str = "", stacked: bool = False) -> Table:
    """Return the table with a group per prune ratio, which then needs no column."""
    parts: dict[str, list[Row]] = {}
    for row in sheet.rows:
        percent, kept = row["pruned_percent"], row.get("tokens_kept")
        title = f"{percent} % pruned" if percent else "Unpruned"
        parts.setdefault(f"{title}: {kept:,} tokens" if kept else title, []).append(row)
    return block(sheet, file, parts, ("Pruned (%)", "Tokens"), stacked)


def cells(rows: Sequence[Row], columns: Mapping[str, str], shade: str = "") -> list[list[str]]:
    """Return the text of each cell; averages and differences are marked as Noise or Clear."""
    keys = {form: _difference_key(fields(form), form, shade) for form in columns.values()}
    return [[_toned(cell(form, row), row, key) for form, key in keys.items()] for row in rows]


def _difference_key(names: Sequence[str], form: str, shade: str) -> str:
    if not names:
        return ""
    first = names[0]
    if f"{{{first}:+" in form and len(names) > 1:
        return first.removesuffix("_m")
    return shade.format(first.split("_")[0]) if shade and first.endswith(("_avg", "_rel")) else ""


def _toned(text: str, row: Row, key: str) -> str:
    """Return the text as Noise or Clear where the row has a difference `key` with an interval."""
    low: Any = row.get(f"{key}_low")
    high: Any = row.get(f"{key}_high")
    if not key or absent(low) or absent(high):
        return text
    return Noise(text) if low <= 0 <= high else Clear(text)
