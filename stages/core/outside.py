"""Plug-ins that live outside this tree: `package.module:Class`, found on Python's path.

`fastdrive.load` takes such an address as it is. A row of the tables, a driver, an annotator or a protocol needs a name
that DVC can watch: `fastdrive plug package.module:Class` writes a file of a few lines into the folder of its kind,
which names the class and the SHA-256 of the file it is in. Another file under the same address is refused.
"""

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, ParamsError

ADDRESS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_address(text: str) -> bool:
    """Does it read as `package.module:Class`?"""
    return ADDRESS.fullmatch(text) is not None


def outside(address: str, sha256: str) -> Any:
    """The class at `address`; for the files that `fastdrive plug` writes.

    Raises ParamsError when there is none; DataError when its file is another than the one that was plugged in.
    """
    if (came := file_hash(address)) != sha256:
        raise DataError(
            expected=f"{address} in a file with SHA-256 {sha256[:12]}, as it was plugged in",
            got=f"{_file(address)} with {came[:12]}",
            fix=f"look at what changed, then run `fastdrive plug {address}`",
        )
    return find(address)


def find(address: str) -> Any:
    """The class at `address`. Raises ParamsError for an address that is none, without module or without class."""
    spec = _spec(address)
    name = address.partition(":")[2]
    module = importlib.import_module(spec.name)
    classes = sorted(key for key, value in vars(module).items() if isinstance(value, type) and not key.startswith("_"))
    if name not in classes:
        near = get_close_matches(name, classes, n=1)
        raise ParamsError(
            expected=f"a class of {spec.name}: {', '.join(classes) or 'it has none'}",
            got=repr(name) + (f" (did you mean {near[0]!r}?)" if near else ""),
            fix=f"`python -c 'import {spec.name}; help({spec.name})'` shows what it holds",
        )
    return getattr(module, name)


def file_hash(address: str) -> str:
    """SHA-256 of the file that holds the class, without running it where its packages do not run themselves."""
    return hashlib.sha256(_file(address).read_bytes()).hexdigest()


def made(cls: Any, options: Mapping[str, object], address: str) -> Any:
    """An object of a dataclass from its options. Raises ParamsError for an unknown one, and for one that lacks."""
    known = [field.name for field in fields(cls) if field.init] if is_dataclass(cls) else []
    unknown = [key for key in options if key not in known]
    lacking = [
        field.name
        for field in (fields(cls) if is_dataclass(cls) else ())
        if field.init and field.default is MISSING and field.default_factory is MISSING and field.name not in options
    ]
    if unknown or lacking:
        raise ParamsError(
            expected=f"options of {address}: {', '.join(known) or 'none'}",
            got=f"unknown: {', '.join(unknown) or 'none'}; lacking: {', '.join(lacking) or 'none'}",
            fix="give the options that it has",
        )
    return cls(**options)


def _file(address: str) -> Path:
    return Path(str(_spec(address).origin))


def _spec(address: str) -> ModuleSpec:
    if not is_address(address):
        raise ParamsError(
            expected="an address `package.module:Class`",
            got=repr(address),
            fix="name module and class, as in `fastdrive plug my_pkg.my_pruner:MyPruner`",
        )
    module = address.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):  # a package on the way that there is not, or that is a module
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ParamsError(
            expected=f"a module {module} on Python's path",
            got="none",
            fix="install its package into this environment, or put its folder into PYTHONPATH",
        )
    return spec
