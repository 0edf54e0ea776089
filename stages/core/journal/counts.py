"""How many key frames a split has, without loading a data set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.journal.graph import Stage

OFFICIAL = {"train": 28130, "val": 6019, "test": 6008, "mini_train": 323, "mini_val": 81}  # nuScenes' own splits
DRAWN = {"world_train": "train_scenes", "world_val": "val_scenes"}  # splits of the drawn world, and their key
CAMERAS = 6


def split_frames(graph: Mapping[str, Stage], params: Mapping[str, Any]) -> dict[str, int | None]:
    """Key frames of the splits that params name, by what they are for: `train` and `eval`."""
    scenes = params["scenes"]
    made = any(scenes["root"] in stage.outs for stage in graph.values())
    return {use: key_frames(scenes[f"{use}_split"], params, made) for use in ("train", "eval")}


def key_frames(split: str, params: Mapping[str, Any], made: bool) -> int | None:
    """Of `split`; `made`: a stage draws the world, as make_world of params says. None where nothing tells."""
    world = params["make_world"]
    if made and split in DRAWN:
        return int(world[DRAWN[split]] * world["samples_per_scene"])
    tables = Path(params["scenes"]["root"]) / params["scenes"]["version"]
    try:
        names = set(json.loads((tables / "splits.json").read_bytes())[split])
        scenes = json.loads((tables / "scene.json").read_bytes())
        return sum(int(scene["nbr_samples"]) for scene in scenes if scene["name"] in names)
    except (OSError, ValueError, LookupError, TypeError):
        return OFFICIAL.get(split)
