"""What each finished stage took on this machine: a line of JSON in `runs/journal/stages.jsonl`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stages.core.lines import append_line, read_lines

RECORDS = Path("runs/journal/stages.jsonl")


@dataclass(frozen=True)
class Record:
    """A stage that ended well. `memory_mb` is the most that its own process held, `worker_memory_mb` the largest of
    those that it started; `key_frames` those of the training and evaluation splits.
    """

    stage: str
    seconds: float
    memory_mb: float
    worker_memory_mb: float
    gpu_memory_mb: float
    out_bytes: int
    machine: str
    cores: int
    ended: str
    resumed: bool
    key_frames: Mapping[str, int | None]
    params: Mapping[str, Any]


def keep(record: Record) -> bool:
    """Append it; False where the disk does not take it."""
    return append_line(RECORDS, asdict(record))


def read_records(path: Path = RECORDS) -> list[Record]:
    """All that are kept, oldest first; those of another version of this file are left out."""
    names = {field.name for field in fields(Record)}
    return [Record(**line) for line in read_lines(path) if set(line) == names]


def machine() -> str:
    """What times depend on: processor, cores, memory, GPUs."""
    from stages.core.provenance import hardware

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return ", ".join(filter(None, [model, hardware()]))
