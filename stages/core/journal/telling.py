"""What every stage says of itself: first why it runs, last what it took and what comes next; and a record of that."""

import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from stages.core import progress
from stages.core.errors import InputError
from stages.core.journal.changes import changed_files, changed_params
from stages.core.journal.counts import split_frames
from stages.core.journal.graph import Stage, following, read_graph, read_yaml
from stages.core.journal.records import Record, keep, machine
from stages.core.provenance import locked

log = logging.getLogger(__name__)
SHOWN = 3  # changes that a reason names


@contextmanager
def telling() -> Iterator[None]:
    """Around the work of a stage; of what is none (a command of the registry, a share, a rank) nothing is told."""
    graph = _graph()
    stage = stage_of(graph, sys.argv[1:], os.environ.get("DVC_STAGE", ""), _module())
    if stage is None:
        yield
        return
    why = reason(stage)
    os.environ |= {progress.STAGE: stage.name, progress.WHY: why}
    log.info("%s: runs because %s", stage.name, why)
    began_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    _keep(graph, stage, took_s)
    log.info("%s: done in %.0f s; next: %s", stage.name, took_s, after(graph, stage))


def stage_of(graph: dict[str, Stage], words: list[str], dvc_stage: str, module: str) -> Stage | None:
    """The stage that a process is: DVC says it, else the module and the cell on its command line."""
    if os.environ.get("RANK") or any(word.startswith("--shard") for word in words):
        return None
    mine = [stage for stage in graph.values() if stage.module == module]
    named = [stage for stage in mine if stage.cell == (words[0] if words else "")]
    said = [stage for stage in mine if stage.name == dvc_stage]
    return next(iter((named if words else said + named) or []), None)


def reason(stage: Stage) -> str:
    """Why it runs, by dvc.lock: it never ended, or params, code or inputs are others than then; else nothing told."""
    lock = locked(Path())
    if stage.name not in lock:
        return "it has not ended before"
    changed = changed_params(lock[stage.name], read_yaml(Path("params.yaml")), stage.params)
    changed += changed_files(stage.name, lock, Path())
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return ", ".join(changed[:SHOWN]) + more if changed else "an out is missing, or by request"


def after(graph: dict[str, Stage], stage: Stage) -> str:
    """What a person does next."""
    if then := following(graph, stage.name):
        return f"`dvc repro {then}`, or `dvc repro` for all that is left"
    page = next((Path(out) / "index.html" for out in stage.outs if (Path(out) / "index.html").is_file()), None)
    return f"open {page}" if page else "`dvc repro` for all that is left"


def _graph() -> dict[str, Stage]:
    try:
        return read_graph(Path())
    except InputError:  # who reads params or DVC says what is wrong
        return {}


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return str(spec.name) if spec else ""


def _keep(graph: dict[str, Stage], stage: Stage, took_s: float) -> None:
    """A record that cannot be made fails no stage."""
    try:
        keep(_record(graph, stage, took_s))
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        log.warning("%s: no record of what it took: %r", stage.name, error)


def _record(graph: dict[str, Stage], stage: Stage, took_s: float) -> Record:
    params: dict[str, Any] = read_yaml(Path("params.yaml"))
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, children = (resource.getrusage(who).ru_maxrss * 1024 / 1e6 for who in whose)
    return Record(
        stage=stage.name,
        seconds=round(took_s, 2),
        memory_mb=round(own, 1),
        worker_memory_mb=round(children, 1),
        gpu_memory_mb=float(progress.memory().get("gpu_memory_mb", 0)),
        out_bytes=sum(map(size_bytes, map(Path, stage.outs))),
        machine=machine(),
        cores=os.cpu_count() or 1,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        resumed=progress.resumed(),
        key_frames=split_frames(graph, params),
        params=params,
    )


def size_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
