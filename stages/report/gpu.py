"""The goals for a GPU and what `make bench-gpu` measured of them: a column for each record, dashes without one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.files import read_json
from stages.report.page import Section, Table, Words
from stages.report.sections import plain
from stages.vla.bench.goals import GOALS, VERDICTS, judged

Record = Mapping[str, Any]
BENCHMARKS = Path("infra/benchmarks")
NOT_MEASURED = (
    "No GPU was at hand: nothing is filled in before `make bench-gpu` has run on one and its JSON is committed."
)
MEASURED = "Random weights at the shapes of Qwen2.5-VL-3B, one image of 3,249 tokens; medians of interleaved rounds."
CAPTION = "Goals for one H200, and what was measured"


def read_benchmarks(folder: Path) -> list[Record]:
    """The records of `make bench-gpu` in `folder`, by name; other benchmarks' are left out."""
    found = [read_json(path, "git checkout infra/benchmarks") for path in sorted(folder.glob("*.json"))]
    return [record for record in found if "goals" in record]


def gpu_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each goal; the values of record i under `value_i`, as text with the verdict, or None."""
    verdicts = [judged(record) for record in records]
    return [
        {"goal": goal.name, "asked": goal.asked}
        | {f"value_{i}": _told(rows[number]) for i, rows in enumerate(verdicts)}
        for number, goal in enumerate(GOALS)
    ]


def columns(records: Sequence[Record]) -> dict[str, str]:
    """Headings to formats; without a record, one empty column for the GPU that is to come."""
    names = {_heading(record): f"{{value_{i}}}" for i, record in enumerate(records)}
    return {"Goal": "{goal}", "Asked": "{asked}"} | (names or {"GPU": "{value_0}"})


def gpu_section(records: Sequence[Record]) -> Section:
    """The table, and in words what it stands on."""
    blocks: list[Table | Words] = [Words(MEASURED if records else NOT_MEASURED)]
    return Section("Speed on a GPU", [*blocks, plain(CAPTION, gpu_rows(records), columns(records))])


def _heading(record: Record) -> str:
    machine = record["machine"]
    return f"{machine.get('gpu', record['device'])}, torch {machine['torch']}, {record['date']}"


def _told(row: Mapping[str, Any]) -> str | None:
    if row["value"] is None:
        return None
    verdict = "" if row["met"] is None else f", {VERDICTS[row['met']].lower()}"
    return f"{row['value']:.2f} {row['unit']}{verdict}"
