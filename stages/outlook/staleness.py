"""Which stages `dvc repro` would run, and why: what `dvc status` says, followed down the graph."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, TryAgainError
from stages.core.journal.changes import changed_params
from stages.core.journal.graph import Stage, inputs

Status = Mapping[str, Sequence[Any]]
CODE = ("stages/", "infra/")


@dataclass(frozen=True)
class State:
    """Whether a stage would run, and the reason."""

    stale: bool
    why: str


def ask_dvc(root: Path) -> "subprocess.Popen[str]":
    """`dvc status`, begun: it takes seconds, in which other things can be done."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = os.environ | {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "PATH": path}
    words = [sys.executable, "-m", "dvc", "status", "--json"]
    return subprocess.Popen(words, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(asked: "subprocess.Popen[str]") -> Status:
    """What it said. Raises TryAgainError while another DVC holds the checkout, DataError when it cannot tell."""
    said, failed = asked.communicate()
    if asked.returncode:
        lines = failed.strip().splitlines() or [f"exit {asked.returncode}"]
        told = [line for line in lines if line.startswith("ERROR")]  # behind it DVC invites to its support page
        last = (told or lines)[-1][:300]
        if "lock" in failed and "acquire" in failed or "busy" in failed:
            then = "wait until it has ended, then `fastdrive plan`"
            raise TryAgainError(expected="to ask DVC what is stale", got=f"another DVC at work: {last}", fix=then)
        then = "mend its files with `python -m flows.dvc`, then `fastdrive plan`"
        raise DataError(expected="to ask DVC what is stale", got=last, fix=then)
    found: Status = json.loads(said)
    return found


def states(
    graph: Mapping[str, Stage], status: Status, locked: Mapping[str, Any], params: Mapping[str, Any]
) -> dict[str, State]:
    """Every stage in the graph's order: its own reason first, else the stages before it that run."""
    before, found = inputs(graph), dict[str, State]()
    pending = list(graph)
    while pending:
        name = next(each for each in pending if not any(other in pending for other in before[each]))
        pending.remove(name)
        found[name] = _state(graph[name], status, locked, params, [each for each in before[name] if found[each].stale])
    return {name: found[name] for name in graph}


def _state(
    stage: Stage, status: Status, locked: Mapping[str, Any], params: Mapping[str, Any], stale_inputs: Sequence[str]
) -> State:
    entry = locked.get(stage.name)
    reasons = ["it has not ended before"] if entry is None else []
    if stage.name in status and entry is not None:
        reasons = list(_reasons(status[stage.name], changed_params(entry, params, stage.params)))
        reasons = reasons or ["DVC says so"]
    if not reasons and stale_inputs:
        reasons = [f"{_listed(stale_inputs)} would change it"]
    return State(bool(reasons), "; ".join(reasons))


def _reasons(changes: Sequence[Any], params: Sequence[str]) -> Iterator[str]:
    """Params, command, code, data, outs: what a person did comes first."""
    if params:
        yield _listed(params)
    yield from (part for part in changes if isinstance(part, str))
    deps, outs = (_files(changes, kind) for kind in ("changed deps", "changed outs"))
    code = {path: how for path, how in deps.items() if path.startswith(CODE)}
    for files in (code, {path: how for path, how in deps.items() if path not in code}, outs):
        for how in dict.fromkeys(files.values()):
            yield f"{_listed([path for path in files if files[path] == how], 1)} {how}"


def _files(changes: Sequence[Any], kind: str) -> dict[str, str]:
    """Path -> deleted, modified, new or not in cache; without the keys of params."""
    parts = [part.get(kind, {}) for part in changes if isinstance(part, dict)]
    return {path: how for part in parts for path, how in part.items() if isinstance(how, str)}


def _listed(words: Sequence[str], shown: int = 2) -> str:
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more
