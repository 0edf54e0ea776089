"""Log of the stages: start, duration and peak memory of each, and a line in `runs/stages.jsonl` when it ended well."""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.core.provenance import hardware

log = logging.getLogger(__name__)

RECORDS = Path("runs/stages.jsonl")


@dataclass(frozen=True)
class Record:
    """A stage that ended well; `memory_mb` is the most that its own process held."""

    stage: str
    seconds: float
    memory_mb: float
    ended: str
    machine: str


@contextmanager
def logged_stage() -> Iterator[None]:
    """Log and record the stage that this process is; other commands, shards and ranks pass unnoticed."""
    stage = _stage()
    if not stage:
        yield
        return
    log.info("%s: started", stage)
    began_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    gpu = f", {gpu_mb:.0f} MB of GPU" if (gpu_mb := _gpu_memory_mb()) else ""
    log.info("%s: done in %.0f s, at most %.0f MB%s", stage, took_s, memory_mb, gpu)
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    _append(Record(stage, round(took_s, 2), round(memory_mb, 1), ended, hardware()))


def read_records(path: Path = RECORDS) -> list[Record]:
    """Return all records, oldest first; damaged lines are left out."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError, TypeError):
            records.append(Record(**json.loads(line)))
    return records


def _stage() -> str:
    """Return the stage's name as DVC has it, by hand `module@cell`; empty for what is no stage as a whole."""
    words = sys.argv[1:]
    if os.environ.get("RANK") or any(word.startswith("--shard") for word in words):
        return ""
    package, _, module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "").rpartition(".")
    return "" if package != "stages" else os.environ.get("DVC_STAGE") or "@".join([module, *words])


def _gpu_memory_mb() -> float:
    torch: Any = sys.modules.get("torch")  # never imported for this
    return torch.cuda.max_memory_allocated() / 1e6 if torch is not None and torch.cuda.is_initialized() else 0.0


def _append(record: Record) -> None:
    """Append a line; a disk that is full costs the record, not the stage."""
    try:
        RECORDS.parent.mkdir(parents=True, exist_ok=True)
        with open(RECORDS, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
    except OSError as error:
        log.warning("no record of this stage in %s: %s", RECORDS, error)
