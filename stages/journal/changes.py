"""Which params of a stage are others than when it last ended: dvc.lock against params.yaml."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ABSENT = "nothing"


def changed_params(locked: Mapping[str, Any], params: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """`train_pruner.steps 240 -> 300` for each value that is another; `locked` is the stage's entry of dvc.lock."""
    then = {key: value for part in locked.get("params", {}).values() for key, value in part.items()}
    before = dict(leaf for key in keys if key in then for leaf in _leaves(key, then[key]))
    now = dict(leaf for key in keys for leaf in _leaves(key, _at(params, key)))
    shared = [key for key in {**before, **now} if before.get(key, ABSENT) != now.get(key, ABSENT)]
    return [f"{key} {_short(before.get(key, ABSENT))} -> {_short(now.get(key, ABSENT))}" for key in shared]


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
