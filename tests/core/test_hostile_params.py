"""Shell characters in params.yaml through a real `dvc repro`: refused, and nothing runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A graph whose cells are named by params.yaml, as in ours."""
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


def repro(root: Path, stage: str) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dvc", "repro", stage]
    return subprocess.run(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if ".dvc" not in path.parts}


@pytest.mark.parametrize("name", ["$(touch hacked)", "none; touch hacked"])
def test_a_cell_named_with_shell_characters_runs_nothing(name: str, project: Path) -> None:
    tree = yaml.safe_load((project / "params.yaml").read_text())
    tree["grid"]["pruners"] = ["none", name]
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    before = files(project)
    done = repro(project, f"plan@{name}")
    assert done.returncode != 0
    assert "exited with 2" in done.stdout
    assert "grid.pruners" in done.stdout
    assert files(project) == before


def test_a_value_with_shell_characters_is_a_value(project: Path) -> None:
    tree = yaml.safe_load((project / "params.yaml").read_text())
    tree["scenes"]["root"] = "$(touch hacked); touch hacked"
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    before = files(project)
    done = repro(project, "world")
    assert "exited with 3" in done.stdout
    assert "a nuScenes root in $(touch hacked); touch hacked" in done.stdout
    assert files(project) == before
