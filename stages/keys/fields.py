"""A key of params.yaml as stages/core/params.py declares it: type, bounds, and the comment beside it."""

import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from stages.core.errors import ParamsError
from stages.core.params import Params


@dataclass(frozen=True)
class Key:
    """One key: dotted name, value in params.yaml, type and bounds in words, what the code says of it ('': nothing)."""

    name: str
    value: Any
    kind: str
    says: str


def key(params: Params, name: str) -> Key:
    """The key `a.b.c`: a field, a section, or an entry of a mapping. Raises ParamsError with the nearest name."""
    at: Any = params
    parts = name.split(".")
    kind, says = "section", ""
    for depth, part in enumerate(parts):
        fields = _entries(at)
        if part not in fields:
            raise _unknown(params, name, ".".join(parts[:depth]), list(fields))
        if isinstance(at, BaseModel):
            field = type(at).model_fields[part]
            kind, says = _kind(field.annotation, field.metadata), _comments(type(at)).get(part, "")
        else:
            kind, says = type(fields[part]).__name__, ""
        at = fields[part]
    return Key(name, at.model_dump(mode="json") if isinstance(at, BaseModel) else at, kind, says)


def keys(at: Any, prefix: str = "") -> Iterator[str]:
    """Every key below `at`, sections first named, then their own."""
    for name, value in _entries(at).items():
        yield prefix + name
        yield from keys(value, f"{prefix}{name}.")


def _entries(at: Any) -> dict[str, Any]:
    if isinstance(at, BaseModel):
        return {name: getattr(at, name) for name in type(at).model_fields}
    return dict(at) if isinstance(at, dict) else {}


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """Words for a type: `int, > 0`, `list[float, >= 0, <= 1]`, `one of eager, fast`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"section with {', '.join(annotation.model_fields)}"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, [bound for info in more for bound in info.metadata])
    inside = [part for part in get_args(annotation) if part is not Ellipsis]
    if get_origin(annotation) in (Union, UnionType):
        said = " or ".join(_kind(part, []) for part in inside)
    else:
        name = "null" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
        said = f"{name}[{', '.join(_kind(part, []) for part in inside)}]" if inside else name
    return ", ".join([said, *filter(None, map(_bound, metadata))])


def _bound(bound: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "pattern": "like"}
    found = [f"{sign} {getattr(bound, name)}" for name, sign in signs.items() if getattr(bound, name, None) is not None]
    return ", ".join(found)


@cache
def _comments(section: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment at the end of its line in the source."""
    lines = inspect.getsource(section).splitlines()
    found = (re.fullmatch(r"\s+(\w+): [^#]+#\s*(.+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _unknown(params: Params, name: str, parent: str, there: list[str]) -> ParamsError:
    near = difflib.get_close_matches(name, list(keys(params)), n=1)
    hint = f"`fastdrive explain {near[0]}`" if near else "`fastdrive explain`, which lists all keys"
    wanted = f"a key of params.yaml; {parent or 'at the top'} there are: {', '.join(there) or 'none'}"
    return ParamsError(expected=wanted, got=repr(name), fix=hint)
