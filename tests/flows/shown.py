"""What tests/flows/test_pages.py looks at: a stack, a pipeline with its report, three versions."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from registered import GIT, make_checkout, register_version
from stack import ROOT, Stack, serving

GRAPH = """
stages:
  make_inputs:
    cmd: python small.py inputs
    deps: [small.py]
    outs: [data, results]
  make_report:
    cmd: python small.py report
    deps: [results]
    outs: [reports]
    metrics:
      - metrics/summary.json: {cache: false}
"""

# The report stage itself, on the small world of tests/report_workspace.py: its scenes need no devkit.
SMALL = """
import sys
from pathlib import Path
from report_workspace import FakeScenes, write_workspace
from stages import make_report
from stages.params import read_params

params = read_params()
if sys.argv[1] == "inputs":
    write_workspace(Path.cwd(), params)
else:
    make_report.open_scenes = lambda root, version: FakeScenes(Path.cwd())
    make_report.main(params)
"""


@dataclass
class Shown:
    """`pipeline` is the flow run of the reproduce flow, in the checkout `project`."""

    stack: Stack
    project: Path
    pipeline: str

    def runs(self, stage: str) -> list[dict[str, Any]]:
        """MLflow's runs of a stage, by its own API."""
        body = {"experiment_ids": ["1"], "filter": f"tags.`dvc.stage` = '{stage}'"}
        asked = urllib.request.Request(
            f"{self.stack.mlflow}/api/2.0/mlflow/runs/search",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())["runs"]
        return found


@contextmanager
def shown(home: Path) -> Iterator[Shown]:
    """The stack serves a checkout with versions 1, 2 and 3 of reconpruner; beside it, `home`/project ran its graph."""
    root, project = home / "served/checkout", home / "project"
    root.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        params = make_checkout(root)
        with serving(root) as stack:
            patch.setenv("MLFLOW_TRACKING_URI", stack.mlflow)
            pipeline = _reproduced(stack, project)  # first: it makes the experiment
            for seed, l2_cm in enumerate((40.0, 40.1, 40.2)):
                register_version(params, seed, l2_cm)
            yield Shown(stack, project, pipeline)
    shutil.rmtree(home)


def _reproduced(stack: Stack, project: Path) -> str:
    """The id of a run of the reproduce flow in a new checkout with the graph above."""
    project.mkdir()
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["grid"] |= {"pruners": ["none", "random_keep"]}
    tree["make_report"] |= {"overlay_methods": ["recon", "random_keep"], "overlay_frames": 1, "worst_samples": 1}
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    (project / "dvc.yaml").write_text(GRAPH)
    (project / "small.py").write_text(SMALL)
    (project / "requirements.lock").write_text("torch==2.15.0\n")
    (project / ".gitignore").write_text("/data\n/results\n/reports\n/runs/\n/.local/\n/work/\n/*.png\n")
    for words in (
        [*GIT, "init", "-qb", "main"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [*GIT, "add", "."],
        [*GIT, "commit", "-qm", "Prune half"],
    ):
        subprocess.run(words, cwd=project, check=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "FASTDRIVE"))}
    env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PREFECT_API_URL": f"{stack.prefect}/api", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.reproduce"], cwd=project, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (run,) = stack.ask("flow_runs/filter", {"flows": {"name": {"any_": ["reproduce"]}}})
    return str(run["id"])
