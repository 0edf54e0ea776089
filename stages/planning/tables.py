"""Rows of numbers as text: a format per column, and Markdown. Pure."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

DASH = "–"


def cell(form: str, row: Row) -> str:
    """Return a format filled with a row's values. An absent one is a dash, and a cell of absent values a single one."""
    names = fields(form)
    return DASH if names and all(absent(row.get(name)) for name in names) else _Dashed().vformat(form, (), row)


def fields(form: str) -> list[str]:
    """Return the names of the values in a format."""
    return [name for _, name, _, _ in string.Formatter().parse(form) if name]


def absent(value: Any) -> bool:
    """Return True for None and NaN."""
    return value is None or value != value


def to_markdown(rows: Sequence[Row], columns: Mapping[str, str] | None = None) -> str:
    """Return a pipe table: `columns` maps a heading to a format (default: each value under its name)."""
    import pandas as pd

    columns = columns or {key: f"{{{key}}}" for row in rows for key in row}
    cells = [[cell(form, row).replace("|", "\\|") for form in columns.values()] for row in rows]
    frame = pd.DataFrame(cells, columns=list(columns), dtype=object)
    return f"{frame.to_markdown(index=False, disable_numparse=True)}\n"


class _Dashed(string.Formatter):
    """A formatter that prints an absent value as a dash."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if absent(value):
            return DASH
        return format(value, format_spec or (".4g" if isinstance(value, float) else ""))
