"""Which case files there are, and who judges each: the family that its name begins with."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

FAMILIES = Path(__file__).parent / "families"


def known_families() -> list[str]:
    """Names of the files in `families`."""
    return sorted(path.stem for path in FAMILIES.glob("*.py") if path.stem != "__init__")


def case_files(folder: Path) -> list[Path]:
    """Case files below `folder`, in one order everywhere: every .npz, and each .json that is named like a family.

    What lies below a `synth-nusc` is a data set, no case. Raises UsageError when there is none.
    """
    named = [*folder.rglob("*.npz"), *(path for path in folder.rglob("*.json") if family_of(path.stem))]
    found = sorted(path for path in named if "synth-nusc" not in path.relative_to(folder).parts)
    if not found:
        raise pytest.UsageError(
            f"no case file (*.npz, *.json) below {folder}; next: pytest tests/reference --cases FOLDER"
        )
    return found


def family_of(stem: str) -> str | None:
    """The longest family that the name of a case file begins with."""
    return max((name for name in known_families() if f"{stem}_".startswith(f"{name}_")), key=len, default=None)


def read_case(path: Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Arrays and meta of a case file; a list in JSON is one array of objects, named `cases`."""
    if path.suffix == ".json":
        return {"cases": np.array(json.loads(path.read_text()), dtype=object)}, {}
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("meta_json", "{}")))


def judge(path: Path) -> None:
    """Raise AssertionError where our code and the case disagree, or where no family knows the case."""
    family = family_of(path.stem)
    assert family is not None, f"no family judges {path.name}; known: {', '.join(known_families())}"
    case, meta = read_case(path)
    try:
        importlib.import_module(f"tests.reference.families.{family}").check(case, meta)
    except KeyError as error:
        raise AssertionError(f"{path.name} lacks {error} that the family {family} needs") from error
