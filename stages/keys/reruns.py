"""Which stages of dvc.yaml run again when a key of params.yaml changes, and which after them."""

import json
import re
from collections.abc import Mapping
from itertools import product
from pathlib import PurePosixPath
from typing import Any

Graph = Mapping[str, Mapping[str, Any]]


def reruns(graph: Graph, params: Mapping[str, Any], name: str) -> tuple[list[str], list[str]]:
    """The stages that read the key `name`, and those that read what these make; in the order of the file.

    `graph` is the `stages` of dvc.yaml as written, `params` the tree of params.yaml. A stage of a matrix is named
    whole when all of its cells run again, else cell by cell (`plan_routes@fastv`).
    """
    cells = expanded(graph, params)
    direct = [cell for cell, entry in cells.items() if any(_covers(param, name) for param in entry["params"])]
    after: dict[str, None] = dict.fromkeys(direct)
    for cell, entry in cells.items():  # inputs stand before their readers
        made = [out for one in after for out in cells[one]["outs"]]
        if cell not in after and any(_overlap(dep, out) for dep in entry["deps"] for out in made):
            after[cell] = None
    return _folded(cells, direct), _folded(cells, [cell for cell in cells if cell in after and cell not in direct])


def expanded(graph: Graph, params: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Cell -> its params, deps and outs, every variable in its place."""
    found: dict[str, dict[str, list[str]]] = {}
    for stage, entry in graph.items():
        matrix = {key: _filled(values, params) for key, values in entry.get("matrix", {}).items()}
        for chosen in product(*matrix.values()):
            item = dict(zip(matrix, chosen, strict=True))
            text = json.dumps({key: entry.get(key, []) for key in ("params", "deps", "outs", "metrics")})
            parts = json.loads(_text(text, {**params, "item": item}))
            outs = [_path(out) for out in parts["outs"] + parts["metrics"]]
            cell = "@".join([stage, *map(str, chosen)][:2]) + "".join(f"-{value}" for value in chosen[1:])
            found[cell] = {"params": parts["params"], "deps": [_path(dep) for dep in parts["deps"]], "outs": outs}
    return found


def _filled(values: Any, params: Mapping[str, Any]) -> list[Any]:
    """The values of an axis of a matrix: a list, or the variable of one."""
    if not isinstance(values, str):
        return list(values)
    return list(_at(params, values.removeprefix("${").removesuffix("}")))


def _text(text: str, tree: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_at(tree, found[1])), text)


def _at(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        tree = tree[part]
    return tree


def _path(out: Any) -> str:
    return str(next(iter(out)) if isinstance(out, dict) else out)


def _covers(param: str, name: str) -> bool:
    """Whether a change of `name` changes what stands under `param`: one of them is the other or lies within."""
    return all(one == other for one, other in zip(param.split("."), name.split("."), strict=False))


def _overlap(dep: str, out: str) -> bool:
    """Whether one path is the other or lies in it."""
    return all(one == two for one, two in zip(PurePosixPath(dep).parts, PurePosixPath(out).parts, strict=False))


def _folded(cells: Mapping[str, Any], some: list[str]) -> list[str]:
    """Stage instead of its cells, where all of them are among `some`."""
    whole = {cell.partition("@")[0] for cell in some}
    whole -= {cell.partition("@")[0] for cell in cells if cell not in some}
    folded = (cell.partition("@")[0] if cell.partition("@")[0] in whole else cell for cell in some)
    return list(dict.fromkeys(folded))
