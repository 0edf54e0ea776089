"""A small checkout with a graph of four stages: two that follow a matrix, one that writes a table."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GRAPH = """
stages:
  world:
    cmd: python stage.py world
    deps: [stage.py]
    params: [frames]
    outs: [out/world.txt]
  plan:
    matrix:
      pruner: ${pruners}
    cmd: python stage.py plan_${item.pruner} out/world.txt
    deps: [out/world.txt]
    outs: ["out/plan_${item.pruner}.txt"]
  report:
    cmd: python stage.py report out/plan_none.txt out/plan_recon.txt
    deps: [out/plan_none.txt, out/plan_recon.txt]
    outs: [out/report.txt]
    metrics:
      - metrics/summary.json: {cache: false}
"""

STAGE = """
import json, os, sys, pathlib
name, *inputs = sys.argv[1:]
if pathlib.Path("fault").exists() and name == "report":
    exec(pathlib.Path("fault").read_text())
text = "".join(pathlib.Path(path).read_text() for path in inputs)
os.makedirs("out", exist_ok=True)
print(f"12:00:00 progress frames {len(name)}/20 (9 %) 1.00/s eta 2 s", file=sys.stderr)
pathlib.Path(f"out/{name}.txt").write_text(text + name + pathlib.Path("params.yaml").read_text())
if name == "report":
    os.makedirs("metrics", exist_ok=True)
    pathlib.Path("metrics/summary.json").write_text(json.dumps({"l2_cm": {"none": 31.5}}))
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "stage.py").write_text(STAGE)
    (root / "params.yaml").write_text("frames: 3\npruners: [none, recon]\n")
    (root / ".gitignore").write_text("/out/\n/fault\n/grandchild\n/.local/\n/runs/\n/mlflow.db*\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (
        [*git, "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [*git, "add", "."],
        [*git, "commit", "-qm", "first"],
    ):
        subprocess.run(words, cwd=root, check=True)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A fresh checkout in which nothing has run."""
    return shutil.copytree(template, tmp_path / "project")


@pytest.fixture(scope="session")
def reproduced(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which plain `dvc repro` has run."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("reproduced") / "project")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=root, check=True, env={"PATH": path})
    return root


@pytest.fixture
def done(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of the checkout in which plain `dvc repro` has run."""
    return shutil.copytree(reproduced, tmp_path / "done")
