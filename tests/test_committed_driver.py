"""The driver's weights in git and the recipe beside them belong together."""

import hashlib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_the_committed_driver_is_of_the_committed_recipe() -> None:
    """Otherwise every fresh clone trains it again for half an hour: `dvc repro train_driver`."""
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["train_driver"]["deps"]
    changed = [d["path"] for d in locked if hashlib.md5((ROOT / d["path"]).read_bytes()).hexdigest() != d["md5"]]
    assert changed == []
