"""The synthetic root with front images that differ, beside a tiny Impromptu snapshot: what a row is planned on."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root
from tiny_impromptu import vla_section, write_questions, write_snapshot

from stages.core.io import write_json
from stages.core.params import Params, read_params

DEFAULT = Path(__file__).parents[1] / "params.yaml"


def make_workspace(folder: Path, key_frames: int = 4) -> Params:
    """`nuscenes`, `3B_AD` and `questions.json` in `folder`, and params for them: two scenes in the split, a shard each.

    The file asks about the first three key frames of the scene that has a CAN bus, about two of them at equal length,
    about the first of the other, and about an image of neither.
    """
    root = copy_root(folder / "nuscenes", key_frames)
    for place, path in enumerate(sorted(root.glob("samples/CAM_FRONT/*.jpg"))):
        noise = np.random.default_rng(place).integers(0, 255, (9, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((160, 90)).save(path, quality=95)
    write_json(root / VERSION / "splits.json", {"both": [TRAIN, JUDGED]})
    names = sorted(path.name for path in root.glob("samples/CAM_FRONT/*.jpg"))
    words = {names[0]: "to", names[1]: "next", names[2]: "on", names[14]: "then", "elsewhere.jpg": "else"}
    asked = [("", name, f"Where {word} <image>?") for name, word in words.items()]
    named = {"questions": "questions.json", "questions_sha256": write_questions(folder / "questions.json", asked)}
    return params_for(vla_section(Path("3B_AD"), write_snapshot(folder / "3B_AD"), **named))


def params_for(section: dict[str, Any], **plan_routes: Any) -> Params:
    """The default with another driver and the synthetic root."""
    whole = read_params(DEFAULT)
    scenes = whole.scenes.model_copy(update={"root": "nuscenes", "eval_split": "both", "oracle_root": None})
    vla = type(whole.vla).model_validate(section | {"size_px": tuple(section["size_px"])})
    mine = whole.plan_routes.model_copy(update={"scenes_per_shard": 1, "batch_size": 8, "threads": 1} | plan_routes)
    return whole.model_copy(update={"scenes": scenes, "vla": vla, "plan_routes": mine})
