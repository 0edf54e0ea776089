"""Pruners, drivers, annotators and protocols by name: of this package, of another one's entry point, or by address.

A name is (a) a module of the kind's package here, (b) an entry point of the group `fastdrive.<kind>`, or (c) an address
`module:Class`, which names code to run: it comes from params.yaml or a caller, never from the files of a model.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from stages.core.errors import ParamsError, with_hint

Kind = Literal["pruners", "drivers", "annotators", "protocols"]
# Package of each kind and what a module of it defines; a protocol is the module itself
KINDS: dict[Kind, tuple[str, str]] = {
    "pruners": ("stages.pruning", "Pruner"),
    "drivers": ("stages.vla", "Driver"),
    "annotators": ("stages.masks", "Annotator"),
    "protocols": ("stages.planning", "judge"),
}
ADDRESS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_address(text: str) -> bool:
    """Return True for `package.module:Class`."""
    return ADDRESS.fullmatch(text) is not None


def own(kind: Kind) -> list[str]:
    """Return the names of this package's plug-ins: its files are searched, not imported."""
    package, member = KINDS[kind]
    defines = re.compile(rf"^((class|def) )?{member}\b", re.MULTILINE)
    files = [file for folder in import_module(package).__path__ for file in Path(folder).glob("*.py")]
    return sorted(file.stem for file in files if file.stem != "base" and defines.search(file.read_text("utf-8")))


def available(kind: Kind) -> list[str]:
    """Return every name that needs no address."""
    return sorted({*own(kind), *entry_points(group=f"fastdrive.{kind}").names})


def find(kind: Kind, name: str, key: str) -> Any:
    """Return the class (of a protocol the module) called `name`, which `key` of params.yaml or an argument gives.

    Raises ParamsError with the nearest name, or with the reason why there is nothing at an address.
    """
    package, member = KINDS[kind]
    if is_address(name):
        return _at(name, key)
    if name in own(kind):
        module = import_module(f"{package}.{name}")
        return module if kind == "protocols" else getattr(module, member)
    for point in entry_points(group=f"fastdrive.{kind}", name=name):
        return point.load()
    names = available(kind)
    fix = f"edit {key}; a package of yours is named `module:Class`, or has an entry point fastdrive.{kind}"
    raise ParamsError(expected=f"for {key} one of the {kind}: {', '.join(names)}", got=with_hint(name, names), fix=fix)


def _at(address: str, key: str) -> Any:
    path, _, name = address.partition(":")
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):  # the module is there, and lacks one of its own imports
            raise
        fix = "install its package into this environment, or put its folder into PYTHONPATH"
        raise ParamsError(expected=f"a module {path} on Python's path, for {key}", got="none", fix=fix) from error
    if not hasattr(module, name):
        names = sorted(each for each in vars(module) if not each.startswith("_"))
        expected = f"a name of {path}: {', '.join(names)}"
        raise ParamsError(expected=expected, got=with_hint(name, names), fix=f"edit {key}")
    return getattr(module, name)


def construct(cls: Any, options: Mapping[str, object], key: str, **given: object) -> Any:
    """Return an object of a dataclass. Raises ParamsError for an option under `key` that is unknown or missing."""
    own_fields = [field for field in fields(cls) if field.init and field.name not in given] if is_dataclass(cls) else []
    known = [field.name for field in own_fields]
    for option in options:
        if option not in known:
            expected = f"options of {key}: {', '.join(known) or 'none'}"
            raise ParamsError(expected=expected, got=with_hint(option, known), fix=f"edit {key}")
    required = [f.name for f in own_fields if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in options]:
        raise ParamsError(expected=f"the options {', '.join(missing)} of {key}", got="none", fix=f"give them to {key}")
    return cls(**given, **options)
