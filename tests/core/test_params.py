"""params.yaml: the default is accepted, faults are refused with the key, and no value reaches a shell."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core.errors import ParamsError
from stages.core.params import flat, read_params
from stages.vla.plans import BLIND, REFERENCES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "params.yaml"


def changed(tmp_path: Path, path: str, value: object) -> Path:
    """The default file with one value replaced or added."""
    tree = yaml.safe_load(FILE.read_text())
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    node[last] = value
    target = tmp_path / "params.yaml"
    target.write_text(yaml.safe_dump(tree))
    return target


def test_no_param_has_a_name_that_dvc_leaves_out_of_the_key_of_its_run_cache() -> None:
    """DVC 3.67 drops `size` and `nfiles` from it wherever they stand: with `size: 4` it gave back what 3 had made."""

    def names(value: Any) -> set[str]:
        return set(value).union(*map(names, value.values())) if isinstance(value, dict) else set()

    assert not names(read_params(FILE).model_dump()) & {"size", "nfiles"}


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train_pruner.ssim_weigth.*did you mean 'ssim_weight'"):
        read_params(changed(tmp_path, "train_pruner.ssim_weigth", 0.2))
    with pytest.raises(ParamsError, match=r"registry.limits.25.l2_mm.*did you mean 'l2_cm'"):
        read_params(changed(tmp_path, "registry.limits.25.l2_mm", 3))
    with pytest.raises(ParamsError, match=r"trained.mask_prediction.step.*did you mean 'steps'"):
        read_params(changed(tmp_path, "trained.mask_prediction.step", 3))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_pruner.ssim_weight", 1.2),
        ("train_pruner.steps", "300"),
        ("train_pruner.steps", 0),
        ("train_pruner.zero_stage", 3),
        ("train_pruner.bf16", "no"),
        ("grid.percents", [25, 100]),
        ("grid.percents", [0]),
        ("grid.pruners", ["none; rm -rf /"]),
        ("grid.references", ["oracel"]),
        ("vla.size_px", [336]),
        ("vla.fit", "crop"),
        ("scenes.root", None),
        ("make_world.samples_per_scene", 3),
    ],
)
def test_a_value_of_a_wrong_type_or_out_of_bounds_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ParamsError) as refusal:
        read_params(changed(tmp_path, key, value))
    assert key in refusal.value.expected
    assert "edit" in refusal.value.fix


def test_options_of_a_plug_in_may_be_nested(tmp_path: Path) -> None:
    options = {"phrases": {"road": ["road", "lane"], "sign": []}, "thresholds": [0.3, 1, None, True]}
    read = read_params(changed(tmp_path, "annotators.nuscenes_geometry", options))
    assert read.annotators["nuscenes_geometry"] == options


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tree = yaml.safe_load(FILE.read_text())
    del tree["train_pruner"]["alpha"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match=r"train_pruner.alpha.*got nothing"):
        read_params(tmp_path / "params.yaml")


def test_a_pruner_of_the_grid_needs_its_options(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="add `fastw"):
        read_params(changed(tmp_path, "grid.pruners", ["none", "fastw"]))


def test_each_row_has_its_list_and_its_ratios() -> None:
    grid = read_params(FILE).grid
    stages = [(grid.plan_stage(name), len(grid.ratios_of(name))) for name in grid.names]
    assert stages[:2] == [("plan_routes@none", 1), ("plan_routes@random_keep", 3)]
    assert ("plan_trained@recon", 3) in stages
    assert {("plan_references", 3), ("plan_references", 1)} < set(stages)
    assert stages[-1] == ("score_plans", 1)
    assert {name for name in grid.names if name not in grid.methods} == {*BLIND, *REFERENCES}


@pytest.mark.parametrize("text", ["a: [1", "grid: 3", "[]", "", "\x00"])
def test_what_is_no_tree_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(("key", "value"), [("vla.fit", "pad"), ("scenes.oracle_root", None)])
def test_an_oracle_that_would_read_another_truth_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ParamsError, match=r"pruners\.oracle.*take oracle out of grid\.references"):
        read_params(changed(tmp_path, key, value))


def test_a_pruner_that_would_never_learn_is_refused(tmp_path: Path) -> None:
    tree = yaml.safe_load(FILE.read_text())
    tree["train_pruner"] |= {"steps": 50, "decoder_first_steps": 49}
    tree["trained"]["mask_prediction"]["steps"] = 10  # it has no decoder to wait for
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    read_params(tmp_path / "params.yaml")
    tree["train_pruner"]["decoder_first_steps"] = 50
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match="decoder_first_steps below the 50 steps"):
        read_params(tmp_path / "params.yaml")


def test_overlays_are_of_methods_of_the_grid_that_choose(tmp_path: Path) -> None:
    for name in ("visionzip", "none"):
        with pytest.raises(ParamsError, match=f"overlay_methods.*{name}"):
            read_params(changed(tmp_path, "make_report.overlay_methods", [name]))


def test_params_are_recorded_as_dotted_names_and_text() -> None:
    assert flat("vla", {"name": "toy", "size_px": [336, 196], "vision": {"depth": 3}}) == {
        "vla.name": "toy",
        "vla.size_px": "[336, 196]",
        "vla.vision.depth": "3",
    }


GRAPH = """
stages:
  world:
    cmd: python stage.py
    params: [scenes]
    outs: [out/world.txt]
  plan:
    matrix:
      pruner: ${grid.pruners}
    cmd: python stage.py
    outs: ["out/${item.pruner}.txt"]
"""
STAGE = """
from pathlib import Path
from stages.core.command import cell, run
from stages.core.errors import DataError
from stages.core.params import Params
import os

def main(params: Params) -> None:
    name = cell(params.grid.pruners) if "@" in os.environ["DVC_STAGE"] else "world"
    if not Path(params.scenes.root).is_dir():
        raise DataError(expected=f"a nuScenes root in {params.scenes.root}", got="no such folder", fix="`ls`")
    Path("out").mkdir(exist_ok=True)
    Path(f"out/{name}.txt").write_text(name)

run(main)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("key", "value", "stage", "refusal"),
    [
        ("grid.pruners", ["none", "none; touch hacked"], "plan@none; touch hacked", ["exited with 2", "grid.pruners"]),
        ("scenes.root", "$(touch hacked)", "world", ["exited with 3", "a nuScenes root in $(touch hacked)"]),
    ],
)
def test_a_value_with_shell_characters_runs_nothing(
    key: str, value: object, stage: str, refusal: list[str], tmp_path: Path
) -> None:
    """Through a real `dvc repro` of a graph whose cells are named by params.yaml, as ours."""
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "stage.py").write_text(STAGE)
    changed(tmp_path, key, value)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")  # as `dvc init --no-scm` does
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    before = {path for path in tmp_path.rglob("*") if ".dvc" not in path.parts}
    command = [sys.executable, "-m", "dvc", "repro", stage]
    done = subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert all(words in done.stdout for words in refusal)
    assert {path for path in tmp_path.rglob("*") if ".dvc" not in path.parts} == before
