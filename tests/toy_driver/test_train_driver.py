"""The whole stage on a tiny configuration: pool, both phases, evaluation, checkpoint."""

from pathlib import Path

import pytest
import yaml

from stages import train_driver
from stages.core.errors import ParamsError
from stages.core.io import read_json, read_manifest
from stages.core.params import Params, read_params

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process
TINY = {
    "pool_scenes": 4,
    "holdout_scenes": 2,
    "frames_per_scene": 2,
    "vision": {"depth": 2, "width": 32, "mlp": 32, "heads": 2, "full_attention": [1]},
    "tower_steps": 2,
    "language_regression_steps": 2,
    "language_answer_steps": 2,
    "batch_size": 2,
    "threads": 1,
}


def params(folder: Path, **changes: object) -> Params:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["train_driver"] |= TINY | changes
    tree["train_driver"]["language"] |= {"layers": 2, "width": 64, "mlp": 64, "mrope_section": [2, 3, 3]}
    tree["make_world"]["workers"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return read_params(folder / "params.yaml")


def test_the_driver_is_trained_evaluated_and_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_driver.main(params(tmp_path))
    notes = read_manifest(Path("models/driver"), "dvc repro train_driver")
    figures = read_json(Path("metrics/train_driver.json"), "dvc repro train_driver")
    assert notes["held_out"] == figures
    assert set(figures["sees"]) == {"none", "other_image", "blind_floor"}
    assert figures["trained"]["tower"]["samples"] == 4
    assert not list(Path("runs").glob("*/*/*.pt"))


def test_scenes_of_the_data_set_are_not_trained_on(tmp_path: Path) -> None:
    seed = read_params(ROOT / "params.yaml").make_world.seed
    with pytest.raises(ParamsError, match="pool_seed"):
        train_driver.main(params(tmp_path, pool_seed=seed))
