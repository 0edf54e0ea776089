"""Which case files there are, and who judges each: the family that its name begins with."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

FAMILIES = Path(__file__).parent / "families"


def known_families() -> list[str]:
    """Names of the files in `families`."""
    return sorted(path.stem for path in FAMILIES.glob("*.py") if path.stem != "__init__")


def case_files(folder: Path) -> list[Path]:
    """Case files below `folder`, in one order everywhere: every .npz, and each .json of a family that judges such.

    What lies below a `synth-nusc` is a data set, no case. Raises UsageError when there is none.
    """
    named = [*folder.rglob("*.npz"), *(path for path in folder.rglob("*.json") if family_of(path))]
    found = sorted(path for path in named if "synth-nusc" not in path.relative_to(folder).parts)
    if not found:
        raise pytest.UsageError(
            f"no case file (*.npz, *.json) below {folder}; next: pytest tests/reference --cases FOLDER"
        )
    return found


def family_of(path: Path) -> str | None:
    """The longest family that the name of a case file begins with, of those that judge files of its kind."""
    names = [name for name in known_families() if f"{path.stem}_".startswith(f"{name}_")]
    return max((n for n in names if getattr(_judging(n), "KIND", ".npz") == path.suffix), key=len, default=None)


def _judging(family: str) -> ModuleType:
    return importlib.import_module(f"tests.reference.families.{family}")


def inputs_beside(path: Path, family: str, other: str) -> dict[str, NDArray]:
    """The arrays of the case of family `other` beside `path`: named alike but for the family, else by it alone."""
    twin = path.with_name(path.name.replace(family, other, 1))
    found = next((file for file in (twin, path.with_name(f"{other}.npz")) if file.is_file()), None)
    assert found is not None, f"{path.name} lacks {twin.name} beside it"
    return read_case(found)[0]


def read_case(path: Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Arrays and meta of a case file; a list in JSON is one array of objects, named `cases`."""
    if path.suffix == ".json":
        return {"cases": np.array(json.loads(path.read_text()), dtype=object)}, {}
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("meta_json", "{}")))


def judge(path: Path) -> None:
    """Raise AssertionError where our code and the case disagree, or where no family knows the case."""
    family = family_of(path)
    assert family is not None, f"no family judges {path.name}; known: {', '.join(known_families())}"
    judging, (case, meta) = _judging(family), read_case(path)
    other, wanted = getattr(judging, "BESIDE", ("", ()))
    if not set(wanted) <= set(case):  # a case whose inputs are those of another
        case = inputs_beside(path, family, other) | case
    try:
        judging.check(case, meta)
    except KeyError as error:
        raise AssertionError(f"{path.name} lacks {error} that the family {family} needs") from error
