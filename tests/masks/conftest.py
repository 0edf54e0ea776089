"""A job on a fresh root, and a published set of one."""

from pathlib import Path

import pytest
import yaml
from synthetic_root import VERSION, copy_root

from stages import generate_masks
from stages.core.params import Params, read_params
from stages.masks import shard_maker
from stages.masks.job import Job
from stages.masks.shard_maker import opened


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Masks of a fresh root in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    copy_root(tmp_path / "nuscenes")
    for cached in (opened, shard_maker.annotator_of):
        cached.cache_clear()
    return Job("nuscenes", VERSION, "nuscenes_geometry", {}, 50, None)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Masks of two scenes of three key frames, made by the stage in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    copy_root(tmp_path / "nuscenes", 3)
    for cached in (opened, shard_maker.annotator_of):
        cached.cache_clear()
    tree = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    splits = {"train_split": "synth_train", "eval_split": "synth_val"}
    tree["scenes"] = {"root": "nuscenes", "version": VERSION, **splits, "oracle_root": None}
    tree["grid"]["references"] = []  # rulers want the truth
    tree["generate_masks"] |= {"workers": 1}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    params = read_params()
    generate_masks.main(params)
    return params
