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

from stages.core.errors import InputError
from stages.core.journal.counts import DRAWN
from stages.core.journal.graph import Stage
from stages.core.journal.records import Record, machine, read_records
from stages.core.params import Params
from stages.efficiency.shapes import ModelShape
from stages.outlook.shape import driver_shape
from stages.outlook.timing import Known, lanes_of
from stages.outlook.work import work_of

REFERENCE = Path(__file__).with_name("reference.json")
NUSCENES_WIDTH_PX = 1600
EACH = ("seconds", "memory_mb", "worker_memory_mb", "gpu_memory_mb", "out_bytes")  # of a stage in reference.json


@dataclass(frozen=True)
class Past:
    """A record with the work that it was, the driver's shape and the width of the images then."""

    record: Record
    known: Known
    shape: ModelShape
    image_width_px: int


def history(graph: Mapping[str, Stage], gpus: int) -> list[Past]:
    """All that can be compared, this machine's last; resumed runs tell too little, and other params' schema nothing."""
    here = [record for record in read_records() if not record.resumed]
    own = machine()
    found = [*_pasts(reference(), graph, gpus, here=False)]
    found += _pasts([record for record in here if record.machine != own], graph, gpus, here=False)
    return found + [*_pasts([record for record in here if record.machine == own], graph, gpus, here=True)]


def _pasts(records: Sequence[Record], graph: Mapping[str, Stage], gpus: int, *, here: bool) -> Iterator[Past]:
    read: dict[str, tuple[Params, ModelShape] | None] = {}
    for record in records:
        text = json.dumps(record.params, sort_keys=True, default=str)
        if text not in read:
            read[text] = _read(text)
        stage = graph.get(record.stage)
        if (then := read[text]) is None or stage is None:
            continue
        params, shape = then
        try:
            work = work_of(stage, params, record.key_frames, shape)
        except (KeyError, InputError):  # a cell that these params did not have
            continue
        if work is not None:
            lanes = lanes_of(stage.module, params, record.cores, gpus if here else 0)
            known = Known(stage.name, stage.module, work, record.seconds, lanes, here)
            yield Past(record, known, shape, image_width_px(params))


def _read(text: str) -> tuple[Params, ModelShape] | None:
    """Params of then and the driver that they name; None where either is of another version, or not here."""
    try:
        params = Params.model_validate_json(text)
        return params, driver_shape(params.vla)
    except (ValidationError, InputError):
        return None


def image_width_px(params: Params) -> int:
    """Of the drawn world's cameras, or of nuScenes'."""
    return params.make_world.size_px[0] if params.scenes.eval_split in DRAWN else NUSCENES_WIDTH_PX


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
