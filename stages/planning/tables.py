"""Tables 1 to 3 of the paper from rows of totals, and any list of rows as CSV, Markdown, LaTeX or HTML. Pure."""

import csv
import html
import io
import string
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

DASH = "–"
METRICS = {"l2": "l2_cm", "collision": "collision_pct", "intersection": "intersection_pct"}
HORIZONS = ("1s", "2s", "3s")
_AVERAGE = "{{{0}_avg:.2f}} [{{{0}_avg_low:.2f}}, {{{0}_avg_high:.2f}}]"

# Heading -> format of a row's values, for people; CSV has every value under its own name.
TABLE_1 = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Tokens": "{tokens_kept} / {tokens_total}",
    "N": "{n}",
    "Unparsed": "{unparsed}",
    **{f"L2 {s[0]} s (cm)": f"{{l2_cm_{s}:.2f}}" for s in HORIZONS},
    "L2 avg. [95 %]": _AVERAGE.format("l2_cm"),
    "L2 rel.": "{l2_rel:.1f}{rel_mark}",
    **{f"Collision {s[0]} s (%)": f"{{collision_pct_{s}:.2f}}" for s in HORIZONS},
    "Collision avg. [95 %]": _AVERAGE.format("collision_pct"),
    "Collision rel.": "{collision_rel:.1f}{rel_mark}",
    "Collisions": "{collision_events_1s} / {collision_events_2s} / {collision_events_3s}",
    **{f"Intersection {s[0]} s (%)": f"{{intersection_pct_{s}:.2f}}" for s in HORIZONS},
    "Intersection avg. [95 %]": _AVERAGE.format("intersection_pct"),
    "Intersection rel.": "{intersection_rel:.1f}{rel_mark}",
    "Intersections": "{intersection_events_1s} / {intersection_events_2s} / {intersection_events_3s}",
}
_INTERVAL = "{{{0}_{1}:.2f}} [{{{0}_{1}_low:.2f}}, {{{0}_{1}_high:.2f}}]"
TABLE_1_INTERVALS = {  # its companion: the interval of each time
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    **{f"L2 {s[0]} s (cm) [95 %]": _INTERVAL.format("l2_cm", s) for s in HORIZONS},
    **{f"Collision {s[0]} s (%) [95 %]": _INTERVAL.format("collision_pct", s) for s in HORIZONS},
    **{f"Intersection {s[0]} s (%) [95 %]": _INTERVAL.format("intersection_pct", s) for s in HORIZONS},
    "N": "{n}",
}
UNLIKE = "†"  # of a Rel. whose row and baseline have another N, so that it is not over the same samples


class Noise(str):
    """A cell that is grey: as far as the samples can tell its difference is chance."""

    tone = "noise"


class Clear(str):
    """A cell in bold: its difference is no chance."""

    tone = "clear"


Lines = Sequence[Sequence[str]]  # the cells of a table's rows, some of them Noise or Clear


def relative(baseline: Sequence[float], method: Sequence[float]) -> float | None:
    """Rel. of the paper: 100 * sum of the baseline's three horizons / sum of the method's, so more than 100 is better.

    Of the unrounded values: with the printed averages 21 of the 22 collision cells of Tables 1 to 3 come out wrong.
    None when the method's sum is 0.
    """
    return 100 * sum(baseline) / sum(method) if sum(method) else None


def table_1(rows: Sequence[Row], baseline: str = "none") -> list[dict[str, Any]]:
    """`rows` of totals with method, pruned_percent and tokens, in their order, with Rel. to the method `baseline`.

    Rel. is None where the baseline is not among the rows or has no value. `rel_mark` is UNLIKE where their N differ.
    """
    reference = next((row for row in rows if row["method"] == baseline), {})
    return [
        {
            **row,
            **{f"{name}_rel": _relative_of(reference, row, column) for name, column in METRICS.items()},
            "rel_mark": UNLIKE if reference and row.get("n") != reference.get("n") else "",
        }
        for row in rows
    ]


def _relative_of(baseline: Row, row: Row, column: str) -> float | None:
    pair = [[part[key] for s in HORIZONS if part.get(key := f"{column}_{s}") is not None] for part in (baseline, row)]
    return relative(*pair) if all(len(values) == len(HORIZONS) for values in pair) else None


def to_csv(rows: Sequence[Row]) -> str:
    """Every value of every row, unrounded, under its own name; an absent one is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_columns_of(rows)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(
    rows: Sequence[Row], columns: Mapping[str, str] | None = None, caption: str = "", lines: Lines | None = None
) -> str:
    """A pipe table: `columns` maps a heading to a format of a row's values (default: each value under its name).

    The caption is the paragraph below it. `lines` are the cells where some are marked: Clear is bold.
    """
    columns = columns or _columns_of(rows)
    escaped = [[_markdown(cell) for cell in line] for line in [list(columns), *(lines or cells(rows, columns))]]
    rule = ["---", *["---:"] * (len(columns) - 1)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in [escaped[0], rule, *escaped[1:]])
    return f"{table}\n{caption}\n" if caption else table


def _markdown(cell: str) -> str:
    text = cell.replace("|", "\\|").replace("\n", " ")
    return f"**{text}**" if isinstance(cell, Clear) else text


def to_html(
    rows: Sequence[Row], columns: Mapping[str, str] | None = None, caption: str = "", lines: Lines | None = None
) -> str:
    """A page with one table, all text escaped; arguments as for Markdown. Noise is grey, Clear is bold."""
    columns = columns or _columns_of(rows)
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in columns)
    body = "".join(f"<tr>{''.join(map(_td, line))}</tr>\n" for line in lines or cells(rows, columns))
    above = f"<caption>{html.escape(caption)}</caption>\n" if caption else ""
    page = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Table</title>\n'
    page += "<style>.noise { color: #6e7781 } .clear { font-weight: bold }</style>\n"
    return f"{page}<table>\n{above}<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{body}</tbody>\n</table>\n</html>\n"


def _td(cell: str) -> str:
    tone = f' class="{cell.tone}"' if isinstance(cell, Noise | Clear) else ""
    return f"<td{tone}>{html.escape(cell)}</td>"


def to_latex(
    rows: Sequence[Row], columns: Mapping[str, str] | None = None, caption: str = "", lines: Lines | None = None
) -> str:
    """A booktabs tabular, in a table environment where it has a caption; arguments as for Markdown.

    Noise is grey (package xcolor), Clear is bold.
    """
    columns = columns or _columns_of(rows)
    head, *body = [" & ".join(map(_latex, line)) + r" \\" for line in [list(columns), *(lines or cells(rows, columns))]]
    alignment = "l" + "r" * (len(columns) - 1)
    text = [
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if caption:
        text = [r"\begin{table}", *text, rf"\caption{{{_latex(caption)}}}", r"\end{table}"]
    return "\n".join(text) + "\n"


def _columns_of(rows: Sequence[Row]) -> dict[str, str]:
    """All keys in order of first appearance, each shown as it is."""
    return {key: f"{{{key}}}" for row in rows for key in row}


def cells(rows: Sequence[Row], columns: Mapping[str, str]) -> list[list[str]]:
    """The text of each cell: `columns` maps a heading to a format of a row's values.

    An absent value is a dash, and a cell of absent values a single one.
    """
    return [[_cell(template, row) for template in columns.values()] for row in rows]


def _cell(template: str, row: Row) -> str:
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    absent = bool(names) and all(row.get(name) is None for name in names)
    return DASH if absent else _Dashed().vformat(template, (), row)


class _Dashed(string.Formatter):
    """A formatter that prints a value that is not there as a dash."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        return DASH if value is None else format(value, format_spec or (".4g" if isinstance(value, float) else ""))


def _latex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        DASH: "--",
        "−": "$-$",
        "×": r"$\times$",
        UNLIKE: r"$\dagger$",
    }
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    escaped = "".join(special.get(sign, sign) for sign in text)
    if isinstance(text, Noise):
        return rf"\textcolor{{gray}}{{{escaped}}}"
    return rf"\textbf{{{escaped}}}" if isinstance(text, Clear) else escaped
