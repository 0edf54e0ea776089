"""Which files of stages/ a stage of dvc.yaml depends on: its imports, followed to the end, plug-ins too.

python -m tests.closure [stage ...]      # the `deps` of code, as dvc.yaml wants them
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "stages"

# They check, write and record, and change no result; the values of params are tracked by `params:`.
NO_DEPS = {
    f"stages/{name}.py"
    for name in (
        "command",
        "errors",
        "faults",
        "files",
        "lineage",
        "lines",
        "outside",
        "params",
        "progress",
        "rules",
        "secrets",
        "sections",
        "sender",
        "spool",
        "store",
        "tracking",
    )
}

# A call of `load` in `stages/<folder>/base.py` runs the file that params name.
PLUGINS = {
    "pruning": "${item.pruner}",
    "masks": "${generate_masks.annotator}",
    "vla": "${vla.name}",
    "planning": "${score_plans.protocol}",
}
OF_ANY = {  # one value in params names the plug-in: what the file of any of them holds
    "masks": "\nclass Annotator",
    "planning": "\ndef judge(",
    "vla": "\nclass Driver(QwenDriver)",
}
WITHOUT_PLUGINS = {"plan_bounds"}  # no driver and no pruner: a bound looks at nothing


def graph() -> dict[str, Any]:
    """The stages of dvc.yaml as written."""
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


def params() -> dict[str, Any]:
    """params.yaml as written."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return tree


def stage_file(stage: dict[str, Any]) -> str:
    """The file that `python -m stages.x` runs."""
    return stage["cmd"].removeprefix("python -m ").replace(".", "/") + ".py"


def code_deps(name: str, stage: dict[str, Any]) -> set[str]:
    """What the `deps` of a stage hold under stages/, plug-ins by their key."""
    seen: set[tuple[str, str]] = set()
    todo = [(stage_file(stage), "")]  # a file, and the name under which it is a dep where that is another
    while todo:
        file, key = todo.pop()
        if file in NO_DEPS or (file, key) in seen:
            continue
        seen.add((file, key))
        if file.endswith(".py"):
            todo += [(other, "") for other in imported(file) | neighbours(file)]
            todo += _loaded(file, name, stage)
    return {key or file for file, key in seen}


@cache
def tree(file: str) -> ast.Module:
    """The syntax tree of a file of the checkout."""
    return ast.parse((ROOT / file).read_text())


def imported(file: str) -> set[str]:
    """Files of stages/ that `file` imports anywhere in it, empty packages left out."""
    names: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {path for name in names if name.split(".")[0] == "stages" for path in _files_of(name)}


def neighbours(file: str) -> set[str]:
    """Templates and the like that a module names and that lie beside it."""
    words = {str(node.value) for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)}
    beside = {(ROOT / file).parent / word for word in words if re.fullmatch(r"[\w.]{1,80}\.\w+", word)}
    return {str(path.relative_to(ROOT)) for path in beside if path.is_file()}


def having(folder: str, mark: str) -> list[Path]:
    """Files of a folder that hold `mark`."""
    return [path for path in sorted((ROOT / folder).glob("*.py")) if mark in path.read_text()]


def _files_of(module: str) -> Iterator[str]:
    base = module.replace(".", "/")
    for path in (f"{base}.py", f"{base}/__init__.py"):
        if (ROOT / path).is_file() and (ROOT / path).stat().st_size:
            yield path


def _loaded(file: str, name: str, stage: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Plug-ins that `file` loads: by a literal name, or (file, path with the key) by a key of params.

    A list with names that are no plug-ins has no path with a key: its files stand as they are.
    """
    bases = {
        alias.asname or alias.name: node.module.removeprefix("stages.")
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.removeprefix("stages.") in PLUGINS
        for alias in node.names
        if alias.name == "base"
    }
    for call in ast.walk(tree(file)):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=alias), attr="load" | "load_parts"), args=[first, *_]
            ) if alias in bases:
                folder = f"stages/{bases[alias]}"
                if isinstance(first, ast.Constant):
                    yield f"{folder}/{first.value!s}.py", ""
                elif (mark := OF_ANY.get(bases[alias])) and name not in WITHOUT_PLUGINS:
                    # No dep can hang on a value: what any of them imports stands there
                    value = _values(bases[alias], stage)[0]
                    yield f"{folder}/{value}.py", f"{folder}/{PLUGINS[bases[alias]]}.py"
                    for path in (str(each.relative_to(ROOT)) for each in having(folder, mark)):
                        yield from ((other, "") for other in imported(path) | neighbours(path))
                elif name not in WITHOUT_PLUGINS:
                    files = [f"{folder}/{value}.py" for value in _values(bases[alias], stage)]
                    if all((ROOT / file).is_file() for file in files):
                        yield from ((file, f"{folder}/{PLUGINS[bases[alias]]}.py") for file in files)
                    else:  # rulers and controls: a control drives unpruned
                        yield from ((file if (ROOT / file).is_file() else f"{folder}/none.py", "") for file in files)


def _values(folder: str, stage: dict[str, Any]) -> list[str]:
    """What the key of a plug-in stands for in params.yaml."""
    key = PLUGINS[folder].strip("${}")
    if key == "item.pruner":
        key = stage["matrix"]["pruner"].strip("${}")
    value: Any = params()
    for part in key.split("."):
        value = value[part]
    return value if isinstance(value, list) else [value]


def _print(names: Iterable[str]) -> None:
    for name in names:
        print(name)
        for file in sorted(code_deps(name, graph()[name]), key=lambda file: ("$" in file, file)):
            print(f"      - {file}")


if __name__ == "__main__":
    _print(sys.argv[1:] or graph())
