"""What is wrong with a parameter file, in a user's words."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.core.errors import ParamsError
from stages.core.outside import is_address


def first_fault(error: ValidationError, path: Path, root: type[BaseModel], prefix: str = "") -> ParamsError:
    """What was wanted and what came in `path`; an unknown key with the nearest known one.

    `root` is what stands there behind `prefix` (the whole file behind none).
    """
    fault = error.errors()[0]
    key = prefix + ".".join(str(part) for part in fault["loc"])
    then = f"edit {key} in {path} ({error.error_count()} wrong in all)"
    if fault["type"] == "extra_forbidden":
        siblings = list(_fields_at(fault["loc"][:-1], root))
        near = difflib.get_close_matches(str(fault["loc"][-1]), siblings, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return ParamsError(expected=f"only known keys: {', '.join(siblings)}", got=f"{key}{hint}", fix=then)
    if is_address(str(fault["input"])):
        then = f"run `fastdrive plug {fault['input']}`, which gives it a name, and write that name"
    came = "nothing" if fault["type"] == "missing" else repr(fault["input"])
    return ParamsError(expected=f"{key}: {fault['msg']}", got=came, fix=then)


def _fields_at(loc: tuple[int | str, ...], root: type[BaseModel]) -> Iterator[str]:
    model: Any = root
    for part in loc:
        model = model.model_fields[str(part)].annotation
    yield from model.model_fields


def check_ruler(name: str, options: Mapping[str, object], wanted: Mapping[str, object], path: Path) -> None:
    """A ruler that read another truth, or fitted it otherwise than the driver its images, would rank at random."""
    if options != wanted:
        raise ParamsError(
            expected=f"pruners.{name} in {path} as scenes.oracle_root and vla.fit are: {wanted}",
            got=f"{options}",
            fix=f"edit pruners.{name}, or take {name} out of grid.references (real data has no such truth)",
        )
