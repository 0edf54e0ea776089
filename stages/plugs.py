"""The files that give a class outside this tree a place in a folder of plug-ins: written, never edited by hand."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from stages.core.errors import DataError, ParamsError
from stages.core.io import write_text
from stages.core.outside import file_hash, find
from stages.core.params import Name

STAGES = Path(__file__).parent
WRITTEN = '"""Plugged in from outside this tree by `fastdrive plug {address}`."""\n'
OPENING = WRITTEN.partition("{")[0]
NEEDS = {  # what a class of each kind has, by the folder of its kind; a pruner is a Pruner
    "vla": ("batches", "plan", "remark", "counts"),
    "masks": ("annotate", "images_at_once"),
    "planning": ("prepare", "judge"),
}
CLASS = '''{written}
from stages.core.outside import outside

OUTSIDE = outside(
    "{address}",
    "{sha256}",
)


class {name}(OUTSIDE):
    """As it is there."""
'''
PROTOCOL = '''{written}
from typing import Any

from stages.core.outside import outside

OUTSIDE = outside(
    "{address}",
    "{sha256}",
)
TIMES = getattr(OUTSIDE, "TIMES", "")


def prepare(truth: Any) -> Any:
    """What `judge` takes; None when the protocol does not count the sample."""
    return OUTSIDE.prepare(truth)


def judge(plan_ego_m: Any, prepared: Any) -> Any:
    """One plan of a prepared sample."""
    return OUTSIDE.judge(plan_ego_m, prepared)


def score(plan_ego_m: Any, truth: Any) -> Any:
    """One plan of a sample."""
    return judge(plan_ego_m, prepare(truth))
'''
NEXT = {
    "pruning": "add {name} to grid.pruners and `{name}: {{}}` under pruners in params.yaml, then `fastdrive reproduce`",
    "vla": "set vla.name to {name} in params.yaml, then `fastdrive reproduce`",
    "masks": "set generate_masks.annotator to {name}, add `{name}: {{}}` under annotators, then `fastdrive reproduce`",
    "planning": "set score_plans.protocol to {name} in params.yaml, then `fastdrive reproduce`",
}


def write_plug(address: str, name: str, stages: Path = STAGES) -> tuple[Path, str]:
    """The file that was written, and what to do next.

    Raises ParamsError for a class of no kind or a name that cannot stand in params.yaml; DataError when a file of that
    name was not written here.
    """
    _check_name(name, address)
    folder = kind_of(find(address), address)
    path = stages / folder / f"{name}.py"
    if path.is_file() and not path.read_text(encoding="utf-8").startswith(OPENING):
        raise DataError(
            expected="a name that no file has yet",
            got=f"{path.name}, which stands in stages/{folder}",
            fix=f"give another: `fastdrive plug {address} --name my_{name}`",
        )
    called = {"pruning": "Pruner", "vla": "Driver", "masks": "Annotator"}.get(folder, "")
    given: Mapping[str, str] = {"address": address, "sha256": file_hash(address), "name": called}
    text = (CLASS if called else PROTOCOL).format(written=WRITTEN.format(address=address), **given)
    write_text(path, text)
    return path, NEXT[folder].format(name=name)


def kind_of(cls: Any, address: str) -> str:
    """The folder of its kind. Raises ParamsError for a class that is none of them, naming what each has."""
    from stages.pruning.base import Pruner  # imports torch

    if issubclass(cls, Pruner):
        return "pruning"
    held = {*dir(cls), *(field.name for field in fields(cls))} if is_dataclass(cls) else {*dir(cls)}
    for folder, needs in NEEDS.items():
        if held.issuperset(needs):
            return folder
    kinds = "; ".join(f"{folder} has {', '.join(needs)}" for folder, needs in NEEDS.items())
    raise ParamsError(
        expected=f"a subclass of stages.pruning.base.Pruner, or a class of another kind: {kinds}",
        got=f"{address} with {', '.join(sorted(key for key in held if not key.startswith('_'))) or 'nothing'}",
        fix="give it what its kind has; the `base.py` of each folder says what that means",
    )


def _check_name(name: str, address: str) -> None:
    pattern = get_args(Name)[1].metadata[0].pattern
    if not re.fullmatch(pattern, name):
        raise ParamsError(
            expected=f"a name of small letters, digits and underscores ({pattern})",
            got=repr(name),
            fix=f"name it: `fastdrive plug {address} --name mine`",
        )
