"""The report's headings of each of its tables, as formats of a row of the CSV. Pure."""

import re
from collections.abc import Mapping, Sequence

from stages.efficiency import paper_table
from stages.planning.tables import TABLE_1, TABLE_1_INTERVALS
from stages.report import choosing, held_out, phases, ranking, references, scenarios, table_four, tradeoff, training
from stages.report import rows as tables
from stages.report.ablations import DIFFERENCE_COLUMNS
from stages.report.driving import MINUS_COLUMNS

_FIXED: Mapping[str, Mapping[str, str]] = {
    "table1": TABLE_1,
    "table1_intervals": TABLE_1_INTERVALS,
    "table1_differences": MINUS_COLUMNS,
    "table2": TABLE_1,
    "table2_differences": DIFFERENCE_COLUMNS,
    "table3": TABLE_1,
    "table3_differences": DIFFERENCE_COLUMNS,
    "driver": references.DRIVER_COLUMNS,
    "driver_events": references.EVENT_COLUMNS,
    "ruler": references.RULER_COLUMNS,
    "driver_pool": held_out.SEES_COLUMNS,
    "driver_pool_events": held_out.EVENTS_COLUMNS,
    "ruler_pool": held_out.PRUNED_COLUMNS,
    "table4": paper_table.COLUMNS,
    "table4_flops": tables.FLOPS_COLUMNS,
    "table4_flops_driver": tables.FLOPS_COLUMNS,
    "table4_latency": tables.LATENCY_COLUMNS,
    "table4_phases": phases.COLUMNS,
    "table4_components": table_four.COMPONENT_COLUMNS,
    "table4_components_7b": table_four.COMPONENT_COLUMNS,
    "table4_accountings": table_four.ACCOUNTING_COLUMNS,
    "recall": tables.RECALL_COLUMNS,
    "masks": tables.MASK_COLUMNS,
    "tradeoff": tradeoff.COLUMNS,
    "choosing": choosing.COLUMNS,
    "training": training.COLUMNS,
}
_RATIO = re.compile(r"(?:l2|object_recall)_(\d+)")


def columns_of(table: str, header: Sequence[str]) -> Mapping[str, str]:
    """Heading -> format; the CSV's own names for a table that this version does not know."""
    percents = [int(found.group(1)) for name in header if (found := _RATIO.fullmatch(name))]
    if table == "scenarios":
        return scenarios.columns(percents)
    if table in ("ranking", "ranking_differences"):
        return ranking.columns(percents, "+" if table.endswith("differences") else "")
    return _FIXED.get(table) or {name: f"{{{name}}}" for name in header}
