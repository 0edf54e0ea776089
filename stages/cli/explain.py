"""What a key of params.yaml means."""

import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.core.errors import ParamsError

if TYPE_CHECKING:
    from stages.core.params import Params

EXAMPLE = "fastdrive explain train_pruner.alpha"


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
    found = find(params, key)
    direct, after = reruns(Path.cwd(), key)
    value = yaml.safe_dump(found.value, default_flow_style=True).removesuffix("...\n").strip()
    lines = {"value": value, "type": found.kind, "meaning": found.meaning or "-"}
    lines |= {"runs again": ", ".join(direct) or "nothing", "then": ", ".join(after) or "nothing"}
    typer.echo("\n".join([found.name, *(f"  {name:11} {line}" for name, line in lines.items())]))


@dataclass(frozen=True)
class Key:
    """Dotted name, value in params.yaml, type with bounds, and the comment in the code ('': none)."""

    name: str
    value: Any
    kind: str
    meaning: str


def find(params: "Params", name: str) -> Key:
    """Return the key `a.b.c`: a field, a section, an entry of a mapping. Raises ParamsError with the nearest name."""
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
    return Key(name, at.model_dump(mode="json") if _declared(at) else at, kind, meaning)


def keys(at: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key below `at`, a section before its own."""
    for name, value in _entries(at).items():
        yield prefix + name
        yield from keys(value, f"{prefix}{name}.")


def reruns(root: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the stages that read the key `name`, and those that come after them; a matrix with all cells as one."""
    import networkx

    from stages.cli.plan import open_graph

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
