"""What stages took before: the records of this machine, behind those of another that reference.json holds.

python -m stages.outlook.history > stages/outlook/reference.json     # make that file of this machine's records
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stages.efficiency.shapes import ModelShape
from stages.journal.graph import Stage
from stages.journal.records import Record, machine, read_records
from stages.outlook.timing import Known, lanes_of
from stages.outlook.work import work_of
from stages.params import Params

REFERENCE = Path(__file__).with_name("reference.json")
EACH = ("seconds", "memory_mb", "worker_memory_mb", "gpu_memory_mb", "out_bytes")  # of a stage in reference.json


@dataclass(frozen=True)
class Past:
    """A record with the work that it was."""

    record: Record
    known: Known


def history(graph: Mapping[str, Stage], shape: ModelShape, gpus: int) -> list[Past]:
    """All that can be compared, this machine's last; resumed runs tell too little, and other params' schema nothing."""
    here = [record for record in read_records() if not record.resumed]
    own = machine()
    found = [*_pasts(reference(), graph, shape, gpus, here=False)]
    found += _pasts([record for record in here if record.machine != own], graph, shape, gpus, here=False)
    return found + [*_pasts([record for record in here if record.machine == own], graph, shape, gpus, here=True)]


def _pasts(
    records: Sequence[Record], graph: Mapping[str, Stage], shape: ModelShape, gpus: int, *, here: bool
) -> Iterator[Past]:
    params: dict[str, Params | None] = {}
    for record in records:
        key = json.dumps(record.params, sort_keys=True, default=str)
        if key not in params:
            params[key] = _read(key)
        then, stage = params[key], graph.get(record.stage)
        if then is None or stage is None:
            continue
        try:
            work = work_of(stage, then, record.key_frames, shape)
        except KeyError:  # a cell that these params did not have
            continue
        if work is not None:
            lanes = lanes_of(stage.module, then, record.cores, gpus if here else 0)
            yield Past(record, Known(stage.name, stage.module, work, record.seconds, lanes, here))


def _read(text: str) -> Params | None:
    try:
        return Params.model_validate_json(text)
    except ValidationError:
        return None


def reference() -> list[Record]:
    """The embedded default on two cores, as reference.json has it."""
    told: dict[str, Any] = json.loads(REFERENCE.read_bytes())
    shared = {key: told[key] for key in ("machine", "cores", "ended", "key_frames", "params")}
    return [Record(stage=name, resumed=False, **shared, **numbers) for name, numbers in told["stages"].items()]


def as_reference(records: Sequence[Record]) -> dict[str, Any]:
    """The last run of each stage under the params of the last record, what they share once."""
    last = records[-1]
    shared = {key: getattr(last, key) for key in ("machine", "cores", "ended", "key_frames", "params")}
    same = [record for record in records if record.params == last.params and not record.resumed]
    return shared | {"stages": {r.stage: {key: getattr(r, key) for key in EACH} for r in same}}


if __name__ == "__main__":
    kept = read_records()
    if not kept:
        sys.exit("wanted records of finished stages; got none; next: `dvc repro`")
    json.dump(as_reference(kept), sys.stdout, indent=1)
    print()
