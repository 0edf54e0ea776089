"""dvc.yaml as DVC expands it: every stage and matrix cell with what it reads and writes. Only read: DVC owns it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.core.errors import DataError


@dataclass(frozen=True)
class Stage:
    """One stage or cell: `name` as DVC says it, `module` as its command runs it."""

    name: str
    module: str
    cell: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]

    def reads(self, other: "Stage") -> bool:
        """Whether a dep is an out of `other`, lies in one, or holds one."""
        return any(_overlap(dep, out) for dep in self.deps for out in other.outs)


def read_graph(root: Path) -> dict[str, Stage]:
    """The stages of the checkout in their order. Raises DataError for a dvc.yaml or params.yaml that cannot be read."""
    try:
        graph, params = (read_yaml(root / name) for name in ("dvc.yaml", "params.yaml"))
        return {stage.name: stage for stage in expanded(graph["stages"], params)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        then = "`git checkout dvc.yaml params.yaml`"
        raise DataError(expected="the graph of dvc.yaml and params.yaml", got=repr(error), fix=then) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file by the reader in C, where there is one. Raises OSError or YAMLError."""
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    tree: dict[str, Any] = reader(path.read_text(encoding="utf-8")).get_single_data()
    return tree


def expanded(stages: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[Stage]:
    """Stages as written, cells of their matrix apart. Raises KeyError for a `${key}` that params lack."""
    for name, entry in stages.items():
        ((key, cells),) = (entry.get("matrix") or {"": [""]}).items()
        for cell in _filled(cells, params) if isinstance(cells, str) else cells:
            values = {**params, "item": {key: cell}}
            deps, outs, keys = (
                tuple(str(_filled(part, values)) for part in map(_name, parts))
                for parts in (
                    entry.get("deps", []),
                    [*entry.get("outs", []), *entry.get("metrics", [])],
                    entry.get("params", []),
                )
            )
            module = str(_filled(entry["cmd"], values)).removeprefix("python -m ")
            yield Stage(f"{name}@{cell}" if cell else name, module, cell, deps, outs, keys)


def inputs(graph: Mapping[str, Stage]) -> dict[str, list[str]]:
    """The stages that each stage reads from, all in the graph's order."""
    return {
        name: [other for other in graph if other != name and stage.reads(graph[other])] for name, stage in graph.items()
    }


def with_inputs(graph: Mapping[str, Stage], names: set[str]) -> set[str]:
    """`names` and all that they come from."""
    before, found, todo = inputs(graph), set[str](), list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += before[name]
    return found


def following(graph: Mapping[str, Stage], name: str) -> str | None:
    """The first stage that reads what `name` makes; None at the end of the graph."""
    return next((other.name for other in graph.values() if other.name != name and other.reads(graph[name])), None)


def _name(part: Any) -> str:
    return str(part) if not isinstance(part, dict) else str(next(iter(part)))


def _filled(text: str, values: Mapping[str, Any]) -> Any:
    """`text` with each `${a.b}` replaced; the value itself where there is nothing else."""
    if whole := re.fullmatch(r"\$\{([\w.]+)\}", text):
        return _value(values, whole[1])
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(_value(values, found[1])), text)


def _value(values: Mapping[str, Any], key: str) -> Any:
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value


def _overlap(dep: str, out: str) -> bool:
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")
