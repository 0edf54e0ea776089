"""One table of two states as one: rows paired by what names them, A → B and B − A. Pure."""

import csv
import io
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from stages.planning.tables import Clear, Noise, cells
from stages.report.page import Group, Table

Row = dict[str, Any]
Key = tuple[Any, ...]

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_BOUNDS = {"low", "high"}
ONLY = "only in {}"
TO, MINUS = "A\u00a0→\u00a0B", "B\u00a0−\u00a0A"  # unbroken in narrow columns


def read_table(text: str) -> list[Row]:
    """The rows of a CSV; numbers as such, empty cells None."""
    return [{key: _value(cell) for key, cell in row.items() if key} for row in csv.DictReader(io.StringIO(text))]


def _value(cell: Any) -> Any:
    if not isinstance(cell, str) or cell == "":
        return None
    if not _NUMBER.fullmatch(cell) or len(cell) > 300:
        return cell
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def keys_of(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """The columns that name a row: the leading ones of text and pruned_percent, further ones of text until no two
    rows of a state share a name."""
    every = [*a, *b]
    header = list(dict.fromkeys(name for row in every for name in row))
    kinds = {name: {type(row[name]) for row in every if row.get(name) is not None} for name in header}
    words = {name for name, found in kinds.items() if found == {str}}
    keys = [name for i, name in enumerate(header) if name == "pruned_percent" or words.issuperset(header[: i + 1])]
    for name in [name for name in header if name in words and name not in keys]:
        now, then = (_names(a, part) + _names(b, part) for part in (keys, [*keys, name]))
        keys = [*keys, name] if then > now else keys
    return keys


def _names(rows: Sequence[Row], keys: Sequence[str]) -> int:
    return len({tuple(row.get(key) for key in keys) for row in rows})


def beside(
    name: str, a: Sequence[Row], b: Sequence[Row], columns: Mapping[str, str], caption: str = ""
) -> tuple[Table, int]:
    """The table, and how many of its cells differ; `columns` maps a heading to a format of a row's values."""
    keys = keys_of(a, b)
    first, second = (_by_key(rows, keys) for rows in (a, b))
    pairs = [(key, first.get(key), second.get(key)) for key in dict.fromkeys([*first, *second])]
    known = {part for row in [*a, *b] for part in row}
    shown = {head: form for head, form in columns.items() if set(_fields(form)) & known - set(keys)}
    measured = [head for head, form in shown.items() if any(_numbers(form, row) for row in [*a, *b])]
    titles = {form[1:-1]: head for head, form in columns.items()}
    grouped = "pruned_percent" in keys and len(keys) > 1
    named = [key for key in keys if not (grouped and key == "pruned_percent")]
    above = [("", len(named) or 1), *((head, 2 if head in measured else 1) for head in shown)]
    below = [part for head in shown for part in ([TO, MINUS] if head in measured else [TO])]
    heads = [titles.get(key, key) for key in named] or ["Row"]
    lines: dict[str, list[list[str]]] = {}
    for key, mine, theirs in pairs:
        about = dict(zip(keys, key, strict=False))
        words = ["–" if about[part] is None else str(about[part]) for part in named] or [str(key[-1] + 1)]
        alone = "" if mine and theirs else f" ({ONLY.format('A' if mine else 'B')})"
        line = [words[0] + alone, *words[1:]]
        for head, form in shown.items():
            line += _cells(mine, theirs, form, head in measured)
        lines.setdefault(_title(about.get("pruned_percent")) if grouped else "", []).append(line)
    count = sum(_differing(mine, theirs) for _, mine, theirs in pairs)
    told = f"{name}: {_told(pairs, count)}{_unseen(pairs, shown)} {caption}".strip()
    return Table(told, [*heads, *below], [Group(part, title) for title, part in lines.items()], above), count


def _told(pairs: Sequence[tuple[Key, Row | None, Row | None]], count: int) -> str:
    alone = [sum(1 for pair in pairs if pair[place] is None) for place in (2, 1)]
    rows = "".join(f"; rows {ONLY.format(state)}: {n}" for n, state in zip(alone, "AB", strict=True) if n)
    return f"values that differ: {count}, in {len(pairs) - sum(alone)} rows of both{rows}."


def _unseen(pairs: Sequence[tuple[Key, Row | None, Row | None]], shown: Mapping[str, str]) -> str:
    """The columns of the CSV that differ and that the report does not show."""
    seen = {part for form in shown.values() for part in _fields(form)}
    both = [(mine, theirs) for _, mine, theirs in pairs if mine and theirs]
    found = dict.fromkeys(part for mine, theirs in both for part in _changed(mine, theirs) if part not in seen)
    return f" Not shown here, but different: {', '.join(found)}." if found else ""


def _by_key(rows: Sequence[Row], keys: Sequence[str]) -> dict[Key, Row]:
    """Rows by their names; rows of one name by their place among them."""
    found: dict[Key, Row] = {}
    counts: dict[Key, int] = {}
    for row in rows:
        key = tuple(row.get(part) for part in keys)
        counts[key] = counts.get(key, -1) + 1
        found[*key, counts[key]] = row
    return found


def _title(percent: Any) -> str:
    return f"{percent} % pruned" if percent else "Unpruned"


def _changed(mine: Row, theirs: Row) -> list[str]:
    return [part for part in dict.fromkeys([*mine, *theirs]) if mine.get(part) != theirs.get(part)]


def _differing(mine: Row | None, theirs: Row | None) -> int:
    return len(_changed(mine, theirs)) if mine and theirs else 0


def _cells(mine: Row | None, theirs: Row | None, form: str, measured: bool) -> list[str]:
    """A → B, and B − A where the column has numbers; grey where nothing differs."""
    texts = [_text(row, form) for row in (mine, theirs)]
    if mine is None or theirs is None:
        return [f"{texts[0]} → {texts[1]}", *(["–"] if measured else [])]
    if not set(_fields(form)) & set(_changed(mine, theirs)):
        return [Noise(texts[0]), *([Noise(_minus(mine, theirs, form))] if measured else [])]
    told = Clear(f"{texts[0]} → {texts[1]}")
    return [told, *([Clear(_minus(mine, theirs, form))] if measured else [])]


def _text(row: Row | None, form: str) -> str:
    if row is None:
        return "–"
    try:
        return cells([row], {"": form})[0][0]
    except (ValueError, TypeError):  # text where this version writes a number
        return " ".join(str(row[part]) for part in _fields(form) if row.get(part) is not None)


def _minus(mine: Row, theirs: Row, form: str) -> str:
    parts = [part for part in _numbers(form, mine) if part in _numbers(form, theirs)]
    differences = [theirs[part] - mine[part] for part in parts]
    return " / ".join("0" if one == 0 else f"{one:+.4g}" for one in differences) or "–"


def _numbers(form: str, row: Row) -> list[str]:
    """The numbers of a cell, without the ends of its interval."""
    parts = [part for part in _fields(form) if not _BOUNDS & set(part.split("_"))]
    return [part for part in parts if isinstance(row.get(part), int | float)]


def _fields(form: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(form) if name]
