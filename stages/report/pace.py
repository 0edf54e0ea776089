"""How fast each row was planned here, and what a full run would take at that pace."""

from pathlib import Path
from typing import Any

from stages.core.io import read_json
from stages.core.params import Grid
from stages.planning.tables import cells
from stages.report.inputs import made_by
from stages.report.page import Group, Section, Table, Words

Record = dict[str, Any]
COLUMNS = {
    "Row": "{row}",
    "N": "{samples:,}",
    "Ratios": "{ratios}",
    "Images encoded": "{images_encoded:,}",
    "Batches scored": "{scorings:,}",
    "Samples/s": "{samples_per_s:.2f}",
    "Answers/s": "{answers_per_s:.2f}",
    "Questions made": "{made}",
    "Answers with a remark": "{remarked}",
    "Full run, projected (h)": "{hours:.1f}",
}


def pace_rows(grid: Grid) -> list[Record]:
    """Every row that a driver planned. Raises DataError naming the stage that makes what is missing."""
    names = [name for name in grid.names if name not in grid.bounds]
    told = [read_json(Path(f"results/throughput/{name}.json"), made_by("plan", name, grid)) for name in names]
    return [_row(record) for record in told]


def _row(record: Record) -> Record:
    asked = record["questions"]
    made = f"{asked['built']}, bare {asked['built_without_can_bus']}" if asked else None
    remarked = sum(sum(found.values()) for found in record["remarks"].values())
    return {**record, "made": made, "remarked": remarked, "hours": record["full_run"]["hours"]}


def pace_section(rows: list[Record]) -> Section:
    """One table; the last column is no measurement."""
    full = rows[0]["full_run"]
    about = (
        "Of one worker, without loading the driver; a sample is encoded once and scored once for all its ratios. "
        f"The last column is projected, not measured: {full['samples']:,} samples in {full['cells']} cells at the pace "
        f"of that row with {full['workers']} worker(s)."
    )
    remarks = (
        "A remark: an answer that is not as the driver was taught, parsed or not; results/throughput counts each kind."
    )
    return Section("Pace of planning", [Words(about), Table(remarks, list(COLUMNS), [Group(cells(rows, COLUMNS))])])
