"""Does the driver look? The rows that every table of a driver starts with, so that a pruner is judged beside them."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

LOOK = ("black_image", "other_image", "blind_floor")  # the image taken away, swapped, never there
UNPRUNED = "none"


def top_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of LOOK that there are, then the unpruned driver's."""
    return [
        row for name in (*LOOK, UNPRUNED) for row in rows if row["method"] == name and not row.get("pruned_percent")
    ]


def starts_with_look(rows: Sequence[Row]) -> list[Row]:
    """All rows, those of `top_rows` first."""
    top = top_rows(rows)
    return [*top, *(row for row in rows if row not in top)]
