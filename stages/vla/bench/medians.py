"""Reading what the benchmark wrote, with nothing but Python: the report reads it too."""

from collections.abc import Mapping
from typing import Any


def median_ms(record: Mapping[str, Any], name: str) -> float | None:
    """A variant's median in a record of `timed`; None where it was not measured."""
    found = record.get("timings", {}).get(name)
    return None if found is None else float(found["median_ms"])


def fastest(record: Mapping[str, Any], names: list[str]) -> str | None:
    """Which of the variants `names` has the lowest median."""
    measured = {name: ms for name in names if (ms := median_ms(record, name)) is not None}
    return min(measured, key=lambda name: measured[name]) if measured else None
