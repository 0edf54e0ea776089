"""The driver's weights in git and the recipe beside them belong together."""

import hashlib
import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_the_committed_driver_is_of_the_committed_recipe() -> None:
    """Otherwise every fresh clone trains it again for 80 minutes: `dvc repro train_driver`."""
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["train_driver"]["deps"]
    changed = [d["path"] for d in locked if hashlib.md5((ROOT / d["path"]).read_bytes()).hexdigest() != d["md5"]]
    assert changed == []


def test_with_real_data_and_a_real_driver_the_drawn_ones_are_no_ancestors() -> None:
    """Other stages name them by ${scenes.root} and ${vla.checkpoint} alone, so that other params leave them out."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = {"data/world", "data/world_oracle", "models/driver", "metrics/train_driver.json"}
    named = {dep for stage in stages.values() for dep in stage["deps"]}
    assert not named & made
    assert {"${scenes.root}/${scenes.version}", "${vla.checkpoint}"} <= named


def figures() -> dict:
    """What the recipe measured on held-out scenes of its pool."""
    return json.loads((ROOT / "metrics/train_driver.json").read_text())


def test_the_committed_driver_sees() -> None:
    sees = figures()["sees"]
    assert sees["none"]["l2_m"] <= 2 / 3 * min(sees["other_image"]["l2_m"], sees["blind_floor"]["l2_m"])
    assert sees["none"]["parsed_share"] >= 0.995
    assert all(event["difference_high"] < 0 for event in figures()["events"].values())  # better than blind on each


def test_the_committed_driver_tells_what_a_pruner_kept() -> None:
    pruned = figures()["pruned"]
    assert pruned["oracle_50"]["difference_m"] <= 0.2
    assert pruned["inverse_50"]["difference_low"] > pruned["random_50"]["difference_high"]
    for percent in (25, 50, 75):
        oracle, random, inverse = (pruned[f"{name}_{percent}"]["l2_m"] for name in ("oracle", "random", "inverse"))
        assert oracle <= random <= inverse


def test_the_committed_weights_are_small() -> None:
    assert (ROOT / "models/driver/model.safetensors").stat().st_size <= 8e6
