"""A workspace in which train_pruner runs in seconds: two scenes, masks, a tiny driver."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root
from tiny import make_tiny_model

from stages.core import io
from stages.core.params import Params, read_params
from stages.masks import mask_set
from stages.masks.base import Mask
from stages.scenes.nuscenes import open_scenes
from stages.vla.toy import write_tokenizer

KEY_FRAMES = 2
REPOSITORY = Path(__file__).parents[1]
SMALL = {"steps": 4, "batch_size": 4, "size_px": [84, 56], "workers": 0, "threads": 1, "held_out_scenes": 1}
SMALL |= {"decoder_layers": 1, "decoder_width": 12, "pixels_per_token": 4, "ssim_window_px": 5}
SMALL |= {"warmup_steps": 1, "decoder_first_steps": 1, "checkpoint_every_s": 1e-9}


def write_inputs() -> None:
    """Two scenes of random images with the lower half as foreground, and a tiny driver."""
    copy_root(Path("nuscenes"), KEY_FRAMES)
    io.write_json(Path("nuscenes") / VERSION / "splits.json", {"both": [TRAIN, JUDGED]})
    random, scenes = np.random.default_rng(0), open_scenes("nuscenes", VERSION)
    foreground = np.arange(90)[:, None].repeat(160, 1) >= 45
    mask = Mask(foreground, ("road",), np.array([[0, 45, 160, 90]], np.float32))
    rows = []
    for frame in map(scenes.frame, scenes.tokens("both")):
        for camera in frame.cameras.values():
            image = random.integers(0, 80, (90, 160, 3), np.uint8) + (foreground[..., None] * 120).astype(np.uint8)
            cv2.imwrite(str(camera.path), image)
            rows.append({"token": camera.token, "sample": frame.token, "scene": frame.scene, "camera": camera.channel})
    members = mask_set.write_shard(Path("work/shards/all.tar"), [(row["token"], mask) for row in rows])
    notes = {"shard": "shards/all.tar", "split": "both"}
    mask_set.publish(Path("work"), mask_set.FOLDER, [a | b | notes for a, b in zip(rows, members, strict=True)], {})
    Path("models/driver").mkdir(parents=True)
    make_tiny_model().save_pretrained("models/driver")
    write_tokenizer(Path("models/driver"))


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch, like: Path | None = None) -> Params:
    """Make `folder` the working directory, with all that `train_pruner recon` reads, or with what is in `like`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train_pruner", "recon"])
    if like is None:
        write_inputs()
    else:
        shutil.copytree(like, folder, dirs_exist_ok=True)
    return write_params()


def write_params(**changes: object) -> Params:
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] |= {"root": "nuscenes", "version": VERSION, "train_split": "both", "oracle_root": None}
    tree["grid"]["references"] = []  # their bounds need the truth
    tree["vla"] |= {"checkpoint": "models/driver", "size_px": [168, 112]}  # another size than in training
    tree["train_pruner"] |= SMALL | changes
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()
