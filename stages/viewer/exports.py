"""Samples for other viewers: a recording of Rerun, made in an isolated environment, and a folder that FiftyOne reads.

Neither is in requirements.lock: Rerun's SDK wants another numpy, FiftyOne brings a MongoDB.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stages.core.errors import MachineError
from stages.core.io import write_json
from stages.viewer.samples import Sample

RERUN = "rerun-sdk==0.41.0"
SCRIPT = Path(__file__).parent / "to_rerun.py"
PATIENCE_S = 1200  # the first time uv fetches 170 MB
LAST = 400  # characters of what uv said that are told
LOADS = "fiftyone.Dataset.from_dir({folder!r}, dataset_type=fiftyone.types.COCODetectionDataset, extra_attrs=True)"
SHOWN = ("method", "pruned_percent", "scene", "event", "speed_mps", "l2_cm", "l2_3s_cm", "collision", "intersection")


def to_rerun(folder: Path, out: Path) -> None:
    """`out` from `folder` (samples.json, PNGs). Raises MachineError where uv, or what it would fetch, is not there."""
    command = ["uv", "run", "--isolated", "--no-project", "--with", RERUN, "python", str(SCRIPT), str(folder), str(out)]
    again = "`pip install uv`, and let uv reach an index (UV_DEFAULT_INDEX names one), then run the same again"
    out.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("uv") is None:
        raise MachineError(
            expected="uv, which runs Rerun's SDK apart from our packages", got="no uv on PATH", fix=again
        )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise MachineError(expected=f"{RERUN} within {PATIENCE_S} s", got="none so far", fix=again) from error
    if done.returncode or not out.is_file():
        said = done.stderr.strip()[-LAST:] or f"exit code {done.returncode}"
        raise MachineError(expected=f"a recording by {RERUN} in an isolated environment", got=said, fix=again)


def to_fiftyone(folder: Path, out: Path, about: dict[str, Any], samples: Sequence[Sample]) -> str:
    """COCO's layout, which FiftyOne and others read: `data/*.png`, `labels.json`. Returns the line that loads it.

    Each image has one annotation, the whole of it, whose attributes are the sample's numbers and answer.
    """
    (out / "data").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for sample in samples:
        name = Path(sample.image).name
        shutil.copyfile(folder / sample.image, out / "data" / name)
        with Image.open(out / "data" / name) as picture:
            width, height = picture.size
        held = about | vars(sample)
        images.append({"id": sample.number, "file_name": name, "width": width, "height": height})
        annotations.append(
            {"id": sample.number, "image_id": sample.number, "category_id": 1, "iscrowd": 0}
            | {"bbox": [0, 0, width, height], "area": width * height}
            | {key: held[key] for key in (*SHOWN, "token", "parsed", "answer", "tokens_kept", "tokens_total")}
        )
    labels = {"info": json.loads(json.dumps(about)), "licenses": [], "categories": [{"id": 1, "name": "sample"}]}
    write_json(out / "labels.json", labels | {"images": images, "annotations": annotations})
    return LOADS.format(folder=str(out))
