"""A working directory with a small nuScenes root, and the parameters of the stage that makes its masks."""

import hashlib
from pathlib import Path

import yaml
from synthetic_root import VERSION, copy_root

from stages.core.params import Params, read_params
from stages.masks import job

SPLITS = ("synth_train", "synth_val")
KEY_FRAMES = 3
REPOSITORY = Path(__file__).parents[1]


def start() -> None:
    """Forget the data set and the annotator, as a new process would."""
    job.opened.cache_clear()
    job.annotator_of.cache_clear()


def write_workspace(train_split: str = SPLITS[0], eval_split: str = SPLITS[1], images_per_shard: int = 100) -> Params:
    """Two scenes of three key frames in ./nuscenes, and params.yaml: the default, one process, no truth."""
    start()
    copy_root(Path("nuscenes"), KEY_FRAMES)
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] = {"root": "nuscenes", "version": VERSION, "train_split": train_split, "eval_split": eval_split}
    tree["scenes"]["oracle_root"] = None
    tree["grid"]["references"] = []  # oracle bounds need the truth
    tree["generate_masks"] |= {"images_per_shard": images_per_shard, "workers": 1}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def hashes() -> dict[str, str]:
    """Path -> sha256 of everything that the stage leaves."""
    paths = [*Path("data/masks").rglob("*"), Path("metrics/masks.json")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}
