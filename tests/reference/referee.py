"""Which case files there are, and who judges each: the family that its name begins with."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

KINDS = {"impromptu_parse": ".json"}  # of a family's files; .npz of all others


@functools.cache
def families() -> dict[str, Callable[[dict[str, NDArray], dict[str, Any]], None]]:
    """Return the checks by family: `check_<family>` of the files beside."""
    from tests.reference import planning_cases, pruning_cases, qwen_cases  # not above: a plug-in imports this file

    checks = {**vars(planning_cases), **vars(pruning_cases), **vars(qwen_cases)}
    return {name.removeprefix("check_"): check for name, check in checks.items() if name.startswith("check_")}


def case_files(folder: Path) -> list[Path]:
    """Case files below `folder`, in one order everywhere: every .npz, and each .json of a family that judges such.

    What lies below a `synth-nusc` is a data set, no case. Raises UsageError when there is none.
    """
    named = [*folder.rglob("*.npz"), *(path for name in KINDS for path in folder.rglob(f"{name}*.json"))]
    found = sorted(path for path in named if "synth-nusc" not in path.relative_to(folder).parts)
    if not found:
        expected = f"no case file (*.npz, *.json) below {folder}; next: pytest tests/reference --cases FOLDER"
        raise pytest.UsageError(expected)
    return found


def family_of(path: Path) -> str | None:
    """The longest family that the name of a case file begins with, of those that judge files of its kind."""
    names = [name for name in families() if f"{path.stem}_".startswith(f"{name}_")]
    return max((name for name in names if KINDS.get(name, ".npz") == path.suffix), key=len, default=None)


def read_case(path: Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Arrays and meta of a case file; a list in JSON is one array of objects, named `cases`.

    A bevplanner case may take its inputs from the omnidrive case beside it: named alike but for the family, or by it
    alone.
    """
    if path.suffix == ".json":
        return {"cases": np.array(json.loads(path.read_text()), dtype=object)}, {}
    with np.load(path, allow_pickle=False) as file:
        case = {name: file[name] for name in file.files}
    meta = json.loads(str(case.pop("meta_json", "{}")))
    if family_of(path) == "bevplanner" and not {"pred_ego", "boxes"} <= set(case):
        twins = [path.with_name(path.name.replace("bevplanner", "omnidrive", 1)), path.with_name("omnidrive.npz")]
        beside = next((twin for twin in twins if twin.is_file()), None)
        assert beside is not None, f"{path.name} lacks {twins[0].name} beside it"
        case = read_case(beside)[0] | case
    return case, meta


def judge(path: Path) -> None:
    """Raise AssertionError where our code and the case disagree, or where no family knows the case."""
    family = family_of(path)
    assert family is not None, f"no family judges {path.name}; known: {', '.join(sorted(families()))}"
    try:
        families()[family](*read_case(path))
    except KeyError as error:
        raise AssertionError(f"{path.name} lacks {error} that the family {family} needs") from error
