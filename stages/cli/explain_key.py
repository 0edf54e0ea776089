"""A key of params.yaml as stages/core/params.py declares it, and the stages that DVC runs again for it."""

import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from stages.cli.plan_table import open_graph
from stages.core.errors import ParamsError
from stages.core.params import Params


@dataclass(frozen=True)
class Key:
    """Dotted name, value in params.yaml, type with bounds, and the comment in the code ('': none)."""

    name: str
    value: Any
    kind: str
    meaning: str


def find(params: Params, name: str) -> Key:
    """Return the key `a.b.c`: a field, a section, an entry of a mapping. Raises ParamsError with the nearest name."""
    at: Any = params
    kind, meaning = "section", ""
    for part in name.split("."):
        fields = _entries(at)
        if part not in fields:
            near = difflib.get_close_matches(name, list(keys(params)), n=1)
            fix = f"`fastdrive explain {near[0]}`" if near else "`fastdrive explain`, which lists all keys"
            raise ParamsError(expected=f"one of {', '.join(fields) or 'no more parts'}", got=repr(name), fix=fix)
        if isinstance(at, BaseModel):
            field = type(at).model_fields[part]
            kind, meaning = _kind(field.annotation, field.metadata), _comments(type(at)).get(part, "")
        else:
            kind, meaning = type(fields[part]).__name__, ""
        at = fields[part]
    return Key(name, at.model_dump(mode="json") if isinstance(at, BaseModel) else at, kind, meaning)


def keys(at: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key below `at`, a section before its own."""
    for name, value in _entries(at).items():
        yield prefix + name
        yield from keys(value, f"{prefix}{name}.")


def reruns(root: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the stages that read the key `name`, and those that come after them; a matrix with all cells as one."""
    import networkx

    with open_graph(root) as repo:
        stages = list(networkx.dfs_postorder_nodes(repo.index.graph))  # inputs first
        direct = [stage for stage in stages if any(_overlap(key, name) for key in _params_of(stage))]
        after = {other for stage in direct for other in networkx.ancestors(repo.index.graph, stage)} - set(direct)
        names = [stage.addressing for stage in stages]
        return (
            _folded(names, [stage.addressing for stage in direct]),
            _folded(names, [stage.addressing for stage in stages if stage in after]),
        )


def _params_of(stage: Any) -> list[str]:
    return [key for dep in stage.deps if hasattr(dep, "read_params") for key in dep.params]


def _overlap(one: str, other: str) -> bool:
    """Return whether one of two keys is the other or lies within it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _folded(names: list[str], some: list[str]) -> list[str]:
    """Return the stage instead of its cells where all of them are among `some`."""
    partial = {name.partition("@")[0] for name in names if name not in some}
    return list(dict.fromkeys(name if name.partition("@")[0] in partial else name.partition("@")[0] for name in some))


def _entries(at: Any) -> dict[str, Any]:
    if isinstance(at, BaseModel):
        return {name: getattr(at, name) for name in type(at).model_fields}
    return dict(at) if isinstance(at, dict) else {}


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """Return words for a type: `int, > 0`, `list[float, >= 0, <= 1]`, `one of toy, impromptu`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"section with {', '.join(annotation.model_fields)}"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, [bound for info in more for bound in info.metadata])
    inside = [_kind(part, []) for part in get_args(annotation) if part is not Ellipsis]
    if get_origin(annotation) in (Union, UnionType):
        name = " or ".join(inside)
    else:
        name = "null" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
        name = f"{name}[{', '.join(inside)}]" if inside else name
    return ", ".join([name, *filter(None, map(_bound, metadata))])


def _bound(bound: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "pattern": "like"}
    values = {sign: getattr(bound, name, None) for name, sign in signs.items()}
    return ", ".join(f"{sign} {value}" for sign, value in values.items() if value is not None)


def _comments(section: type[BaseModel]) -> dict[str, str]:
    """Return the comment at the end of the line of each field in the source."""
    matches = (re.fullmatch(r"\s+(\w+): [^#]+#\s*(.+)", line) for line in inspect.getsource(section).splitlines())
    return {match[1]: match[2] for match in matches if match}
