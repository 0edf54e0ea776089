"""What a run would do."""

import difflib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from stages.core.errors import DataError, ParamsError, TryAgainError

EXAMPLE = "fastdrive plan train_pruner"
CODE = ("stages/", "infra/")


def plan(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages of dvc.yaml, with all that they need; every stage by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """List the stages that would run, why, and how long each took last time; free memory and disk of this machine."""
    found = make_plan(Path.cwd(), stages or [])
    tree = asdict(found) | {"summary": summary(found)}
    typer.echo(dumps(tree, indent=1) if json else table(found))


@dataclass(frozen=True)
class Stale:
    """A stage that would run. `last_seconds`: of its last run on this machine, None where there is none."""

    stage: str
    why: str
    last_seconds: float | None


@dataclass(frozen=True)
class Plan:
    """The stale stages in the order of a run, of so many that were asked about."""

    stale: list[Stale]
    stages: int
    names: Sequence[str]
    memory_free_bytes: int
    disk_free_bytes: int


@contextmanager
def open_graph(root: Path) -> Iterator[Any]:
    """Yield the `dvc.repo.Repo` of a checkout. DVC is asked in this process: importing it takes seconds.

    Raises DataError where DVC cannot read its files, TryAgainError while another DVC holds the lock.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    expected = "to read dvc.yaml and dvc.lock"
    try:
        with Repo(str(root)) as repo:
            yield repo
    except LockError as error:
        fix = "wait until the other DVC ends, then run the same command again"
        got = f"another DVC at work: {str(error).splitlines()[0]}"
        raise TryAgainError(expected=expected, got=got, fix=fix) from error
    except DvcException as error:
        fix = "`fastdrive doctor --fix`, or `dvc status`, which shows more"
        raise DataError(expected=expected, got=" ".join(str(error).split())[:300], fix=fix) from error


def make_plan(root: Path, names: Sequence[str]) -> Plan:
    """Ask DVC about the stages `names` (of a matrix: all cells) and all that they need; every stage for no name.

    Raises ParamsError with the nearest name for one that does not exist.
    """
    import networkx

    from stages.core.stage_log import read_records

    last = {record.stage: record.seconds for record in read_records()}
    with open_graph(root) as repo:
        graph = repo.index.graph  # an edge leads from a stage to what it reads
        known = {part for stage in graph for part in (stage.addressing, stage.addressing.partition("@")[0])}
        for name in (name for name in names if name not in known):
            near = difflib.get_close_matches(name, sorted(known), 1)
            fix = f"`fastdrive plan {near[0]}`" if near else "`dvc stage list` names them all"
            raise ParamsError(expected="a stage of dvc.yaml", got=repr(name), fix=fix)
        chosen = {stage for name in names for stage in repo.stage.collect(name, with_deps=True)} or set(graph)
        status = repo.status(list(names) or None, with_deps=True)
        stale: dict[Any, Stale] = {}
        for stage in networkx.dfs_postorder_nodes(graph):
            before = [other.addressing for other in graph.successors(stage) if other in stale]
            name = stage.addressing
            if stage in chosen and (name in status or before):
                why = "; ".join(_reasons(stage, status[name])) if name in status else f"after {_listed(before)}"
                stale[stage] = Stale(name, why, last.get(name))
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(root).free
    return Plan(list(stale.values()), len(chosen), names, memory, disk)


def _reasons(stage: Any, changes: Sequence[Any]) -> Iterator[str]:
    """Params with both values, the command, code, data, outputs: what a person did comes first."""
    if not any(out.hash_info for out in stage.outs):
        yield "never ran"
        return
    params = [text for dep in stage.deps if hasattr(dep, "read_params") for text in _changed_params(dep)]
    if params:
        yield _listed(params)
    yield from (part for part in changes if isinstance(part, str))
    deps, outs = (
        {path: how for part in changes if isinstance(part, dict) for path, how in part.get(kind, {}).items()}
        for kind in ("changed deps", "changed outs")
    )
    files = {path: how for path, how in deps.items() if isinstance(how, str)}  # of params it is a mapping
    code = {path: how for path, how in files.items() if path.startswith(CODE)}
    data = {path: how for path, how in files.items() if path not in code}
    for group in (code, data, outs):
        for how in dict.fromkeys(group.values()):
            yield f"{_listed([path for path in group if group[path] == how], 1)} {how}"


def _changed_params(dep: Any) -> list[str]:
    """Return `train_pruner.steps 240 -> 300` for each value that differs from dvc.lock."""
    from stages.core.params import flat

    then, now = (
        {key: text for name, value in (values or {}).items() for key, text in flat(name, value).items()}
        for values in (dep.hash_info.value, dep.read_params())
    )
    pairs = {key: (then.get(key, "nothing"), now.get(key, "nothing")) for key in {**then, **now}}
    return [
        f"{key} {old} -> {new}" if len(old + new) < 60 else f"{key} changed"
        for key, (old, new) in pairs.items()
        if old != new
    ]


def _listed(words: Sequence[str], shown: int = 2) -> str:
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def table(plan: Plan) -> str:
    """Return the plan as aligned lines; one line when nothing is stale."""
    if not plan.stale:
        return summary(plan)
    rows = [("stage", "last run", "why")]
    rows += [(row.stage, duration(row.last_seconds), row.why) for row in plan.stale]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{stage:{widths[0]}}  {last:>{widths[1]}}  {why}" for stage, last, why in rows]
    return "\n".join([*lines, summary(plan), f"next: `{' '.join(['dvc repro', *plan.names])}`"])


def summary(plan: Plan) -> str:
    """Return all stale stages and the machine in one line."""
    if not plan.stale:
        return f"{plan.stages} stages, all up to date"
    known = [row.last_seconds for row in plan.stale if row.last_seconds is not None]
    new = f" without {len(plan.stale) - len(known)} that never ran here" if len(known) < len(plan.stale) else ""
    last = f"took {duration(sum(known))} last time{new}" if known else "none ran here before"
    room = f"{plan.memory_free_bytes / 1e9:.0f} GB of memory and {plan.disk_free_bytes / 1e9:.0f} GB of disk are free"
    return f"{len(plan.stale)} of {plan.stages} stages are stale, {last}; {room}"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that fits; a dash for None."""
    if seconds is None:
        return "-"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.0f} s"
