"""`fastdrive plan`, `explain` and `schema`: what a run would do; keys of params.yaml, and what runs again for them."""

import difflib
import inspect
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.core.errors import ParamsError
from stages.core.graph import open_graph

if TYPE_CHECKING:
    from stages.core.params import Params

CODE = ("stages/", "infra/")


def plan(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages of dvc.yaml, with all that they need; every stage by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """List the stages that would run, why, and how long each took last time; free memory and disk of this machine."""
    found = make_plan(Path.cwd(), stages or [])
    typer.echo(dumps(found | {"summary": summary(found)}, indent=1) if json else table(found))


def explain(
    key: Annotated[str, typer.Argument(help="As in params.yaml, parts with dots; all keys by default.")] = "",
) -> None:
    """Print value, type, bounds and meaning of a key, and which stages run again when it changes."""
    import yaml

    from stages.core.params import read_params

    params = read_params()
    if not key:
        typer.echo("\n".join(keys(params)))
        return
    value, kind, meaning = find(params, key)
    direct, after = reruns(Path.cwd(), key)
    shown = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    lines = {"value": shown, "type": kind, "meaning": meaning or "-"}
    lines |= {"runs again": ", ".join(direct) or "nothing", "then": ", ".join(after) or "nothing"}
    typer.echo("\n".join([key, *(f"  {name:11} {line}" for name, line in lines.items())]))


def schema() -> None:
    """Print the JSON schema of params.yaml; editors complete and check with it.

    Write `# yaml-language-server: $schema=params.schema.json` at the top of params.yaml.
    """
    from stages.core.params import Params

    typer.echo(dumps(Params.model_json_schema(), indent=2))


def make_plan(root: Path, names: Sequence[str]) -> dict[str, Any]:
    """Ask DVC about the stages `names` (of a matrix: all cells) and all that they need; every stage for no name.

    `stale` are those that would run, in that order, with the seconds of their last run on this machine; `stages` is how
    many were asked about. Raises ParamsError with the nearest name for one that does not exist.
    """
    import networkx
    import psutil

    from stages.core.command import last_seconds

    last = last_seconds()
    with open_graph(root) as repo:
        graph = repo.index.graph  # an edge leads from a stage to what it reads
        known = {part for stage in graph for part in (stage.addressing, stage.addressing.partition("@")[0])}
        for name in (name for name in names if name not in known):
            near = difflib.get_close_matches(name, sorted(known), 1)
            fix = f"`fastdrive plan {near[0]}`" if near else "`dvc stage list` names them all"
            raise ParamsError(expected="a stage of dvc.yaml", got=repr(name), fix=fix)
        chosen = {stage for name in names for stage in repo.stage.collect(name, with_deps=True)} or set(graph)
        status = repo.status(list(names) or None, with_deps=True)
        stale: dict[Any, dict[str, Any]] = {}
        for stage in networkx.dfs_postorder_nodes(graph):
            before = [other.addressing for other in graph.successors(stage) if other in stale]
            name = stage.addressing
            if stage in chosen and (name in status or before):
                why = "; ".join(_reasons(stage, status[name])) if name in status else f"after {listed(before)}"
                stale[stage] = {"stage": name, "why": why, "last_seconds": last.get(name)}
    return {
        "stale": list(stale.values()),
        "stages": len(chosen),
        "names": list(names),
        "memory_free_bytes": psutil.virtual_memory().available,
        "disk_free_bytes": shutil.disk_usage(root).free,
    }


def _reasons(stage: Any, changes: Sequence[Any]) -> Iterator[str]:
    """Params with both values, the command, code, data, outputs: what a person did comes first."""
    if not any(out.hash_info for out in stage.outs):
        yield "never ran"
        return
    params = [text for dep in stage.deps if hasattr(dep, "read_params") for text in _changed_params(dep)]
    if params:
        yield listed(params)
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
            yield f"{listed([path for path in group if group[path] == how], 1)} {how}"


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


def listed(words: Sequence[str], shown: int = 2) -> str:
    """Return the first words, and how many more there are."""
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def table(plan: Mapping[str, Any]) -> str:
    """Return the plan as aligned lines; one line when nothing is stale."""
    if not plan["stale"]:
        return summary(plan)
    rows = [("stage", "last run", "why")]
    rows += [(row["stage"], duration(row["last_seconds"]), row["why"]) for row in plan["stale"]]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{stage:{widths[0]}}  {last:>{widths[1]}}  {why}" for stage, last, why in rows]
    return "\n".join([*lines, summary(plan), f"next: `{' '.join(['dvc repro', *plan['names']])}`"])


def summary(plan: Mapping[str, Any]) -> str:
    """Return all stale stages and the machine in one line."""
    stale, stages = len(plan["stale"]), plan["stages"]
    if not stale:
        return f"{stages} stages, all up to date"
    known = [row["last_seconds"] for row in plan["stale"] if row["last_seconds"] is not None]
    new = f" without {stale - len(known)} that never ran here" if len(known) < stale else ""
    last = f"took {duration(sum(known))} last time{new}" if known else "none ran here before"
    memory_gb, disk_gb = plan["memory_free_bytes"] / 1e9, plan["disk_free_bytes"] / 1e9
    room = f"{memory_gb:.0f} GB of memory and {disk_gb:.0f} GB of disk are free"
    return f"{stale} of {stages} stages are stale, {last}; {room}"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that fits; a dash for None."""
    if seconds is None:
        return "-"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.0f} s"


# Keys of params.yaml


def find(params: "Params", name: str) -> tuple[Any, str, str]:
    """Return value, type with bounds and comment of the key `a.b.c`. ParamsError with the nearest name."""
    at: Any = params
    kind, meaning = "section", ""
    for part in name.split("."):
        fields = _entries(at)
        if part not in fields:
            near = difflib.get_close_matches(name, list(keys(params)), n=1)
            fix = f"`fastdrive explain {near[0]}`" if near else "`fastdrive explain`, which lists all keys"
            raise ParamsError(expected=f"one of {', '.join(fields) or 'no more parts'}", got=repr(name), fix=fix)
        kind, meaning = type(fields[part]).__name__, ""
        if _declared(at):
            comment = re.search(rf"^\s+{part}: [^#\n]+#\s*(.+)", inspect.getsource(type(at)), re.MULTILINE)
            schema = type(at).model_json_schema()["properties"][part]
            kind, meaning = _kind(schema), comment[1] if comment else ""
        at = fields[part]
        if _declared(at):
            kind = f"section with {', '.join(_declared(at))}"
    return at.model_dump(mode="json") if _declared(at) else at, kind, meaning


def keys(at: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key below `at`, a section before its own."""
    for name, value in _entries(at).items():
        yield prefix + name
        yield from keys(value, f"{prefix}{name}.")


def reruns(root: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the stages that read the key `name`, and those that come after them; a matrix with all cells as one."""
    import networkx

    def reads(stage: Any) -> bool:
        found = (key for dep in stage.deps if hasattr(dep, "read_params") for key in dep.params)
        return any(f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for key in found)

    with open_graph(root) as repo:
        stages = list(networkx.dfs_postorder_nodes(repo.index.graph))  # inputs first
        direct = {stage for stage in stages if reads(stage)}
        after = {other for stage in direct for other in networkx.ancestors(repo.index.graph, stage)} - direct
    return _folded(stages, direct), _folded(stages, after)


def _folded(stages: list[Any], some: set[Any]) -> list[str]:
    """Return the names of `some` stages, one for all cells of a matrix where they are all among them."""
    partial = {stage.addressing.partition("@")[0] for stage in stages if stage not in some}
    names = [(stage.addressing, stage.addressing.partition("@")[0]) for stage in stages if stage in some]
    return list(dict.fromkeys(cell if name in partial else name for cell, name in names))


def _declared(at: Any) -> dict[str, Any]:
    """Return the fields that a section of the tree (a pydantic model) declares; none for other values."""
    return getattr(type(at), "model_fields", {})


def _entries(at: Any) -> dict[str, Any]:
    return {name: getattr(at, name) for name in _declared(at)} or (dict(at) if isinstance(at, dict) else {})


def _kind(schema: dict[str, Any]) -> str:
    """Return a JSON schema in words: `number, minimum 0, maximum 1`, `array of (integer)`, `one of toy, impromptu`."""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    bounds = [f"{key} {value}" for key, value in schema.items() if isinstance(value, int | float | str)]
    bounds = [bound for bound in bounds if not bound.startswith(("type ", "title ", "$ref "))]
    inside = [f"of ({_kind(schema['items'])})"] if "items" in schema else []
    return ", ".join([" ".join([schema.get("type", "value"), *inside]), *bounds])
