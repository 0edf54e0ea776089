"""What of a stage is another than when it last ended, by dvc.lock: params, code, outs of other stages."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

ABSENT = "nothing"


def changed_params(locked: Mapping[str, Any], params: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """`train_pruner.steps 240 -> 300` for each value that is another; `locked` is the stage's entry of dvc.lock."""
    then = {key: value for part in locked.get("params", {}).values() for key, value in part.items()}
    before = dict(leaf for key in keys if key in then for leaf in _leaves(key, then[key]))
    now = dict(leaf for key in keys for leaf in _leaves(key, _at(params, key)))
    shared = [key for key in {**before, **now} if before.get(key, ABSENT) != now.get(key, ABSENT)]
    return [f"{key} {_short(before.get(key, ABSENT))} -> {_short(now.get(key, ABSENT))}" for key in shared]


def changed_files(name: str, locked: Mapping[str, Any], root: Path) -> list[str]:
    """Deps of the stage `name` that are others: code by its bytes, what another stage makes by that one's entry."""
    made = {out["path"]: out.get("md5") for entry in locked.values() for out in entry.get("outs", [])}
    return [f"{dep['path']} changed" for dep in locked[name].get("deps", []) if _is_other(dep, made, root)]


def _is_other(dep: Mapping[str, Any], made: Mapping[str, Any], root: Path) -> bool:
    path = root / dep["path"]
    if dep["path"] in made:
        return bool(made[dep["path"]] != dep.get("md5"))
    return path.is_file() and md5(path.read_bytes(), usedforsecurity=False).hexdigest() != dep.get("md5")


def _at(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(f"{key}.{name}", part)
    elif value != ABSENT:
        yield key, value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
