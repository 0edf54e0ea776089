"""The driver's own examination as flat rows: held-out scenes of its pool, more of them than the data set has. Pure."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

_DIFFERENCE = "{difference_m:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}]"
SEES_COLUMNS = {"Plan": "{name}", "N": "{n}", "L2 (m) [95 %]": "{l2_m:.2f} [{l2_low:.2f}, {l2_high:.2f}]"}
EVENTS_COLUMNS = {"Event": "{name}", "N": "{n}", "L2 (m)": "{l2_m:.2f}", "driver − blind floor [95 %]": _DIFFERENCE}
PRUNED_COLUMNS = {
    "Keeps": "{name}",
    "Pruned (%)": "{pruned_percent}",
    "N": "{n}",
    "L2 (m)": "{l2_m:.2f}",
    "− unpruned [95 %]": _DIFFERENCE,
}


def rows_of(driver: Mapping[str, Any], table: str) -> list[Row]:
    """Rows of `sees`, `events` or `pruned` of metrics/train_driver.json, best first; none where it has no such table.

    A name such as `oracle_50` of `pruned` becomes a name and a prune ratio, and rows are sorted by the ratio first.
    """
    rows = [{"name": name, **figures} for name, figures in driver.get(table, {}).items()]
    if table != "pruned":
        return sorted(rows, key=lambda row: row["l2_m"])
    parted = [(row, *row["name"].rsplit("_", 1)) for row in rows]
    split = [{**row, "name": name, "pruned_percent": int(percent)} for row, name, percent in parted]
    return sorted(split, key=lambda row: (row["pruned_percent"], row["l2_m"]))
