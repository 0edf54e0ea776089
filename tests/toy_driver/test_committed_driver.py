"""Held-out figures and size of the committed driver."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def figures() -> dict:
    """Measured on held-out scenes of its pool."""
    return json.loads((ROOT / "metrics/train_driver.json").read_text())


def test_the_committed_driver_sees() -> None:
    sees = figures()["sees"]
    assert sees["none"]["l2_m"] <= 2 / 3 * min(sees["other_image"]["l2_m"], sees["blind_floor"]["l2_m"])
    assert sees["none"]["parsed_share"] >= 0.995
    assert all(event["difference_high"] < 0 for event in figures()["events"].values())  # better than blind on each


def test_the_committed_driver_tells_the_oracle_from_its_inverse() -> None:
    pruned = figures()["pruned"]
    assert pruned["oracle_50"]["difference_m"] <= 0.2
    assert pruned["inverse_50"]["difference_low"] > pruned["random_50"]["difference_high"]
    for percent in (25, 50, 75):
        oracle, random, inverse = (pruned[f"{name}_{percent}"]["l2_m"] for name in ("oracle", "random", "inverse"))
        assert oracle <= random <= inverse


def test_the_committed_weights_are_small() -> None:
    assert (ROOT / "models/driver/model.safetensors").stat().st_size <= 8e6
