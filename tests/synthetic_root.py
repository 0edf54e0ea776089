"""A small nuScenes root on disk: two scenes of 14 key frames (tests/cases/synth-nusc), 160 x 90 images left blank."""

import json
import shutil
from pathlib import Path

CASE = Path(__file__).parent / "cases" / "synth-nusc"
VERSION = "v1.0-mini"
TRAIN, JUDGED = "scene-0061", "scene-0103"


def copy_root(folder: Path, key_frames: int = 14) -> Path:
    """The root in `folder`, with a custom split for each of its scenes, which end after so many key frames."""
    shutil.copytree(CASE, folder, dirs_exist_ok=True)
    samples = json.loads((folder / VERSION / "sample.json").read_text())
    for first in (0, 14):
        samples[first + key_frames - 1]["next"] = ""
    (folder / VERSION / "sample.json").write_text(json.dumps(samples))
    for record in json.loads((folder / VERSION / "sample_data.json").read_text()):
        path = folder / record["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"blank")
    splits = {"synth_train": [TRAIN], "synth_val": [JUDGED], "both": [TRAIN, JUDGED]}
    (folder / VERSION / "splits.json").write_text(json.dumps(splits))
    return folder
