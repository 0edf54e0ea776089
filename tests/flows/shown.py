"""What tests/flows/test_pages.py looks at: two servers, a pipeline with its report, three versions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from registered import GIT, make_checkout, register_version
from stack import PATIENCE_S, ROOT, Stack, settings, until

from flows.logins import with_logins
from flows.services import services

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
from stages.core.params import read_params

params = read_params()
if sys.argv[1] == "inputs":
    write_workspace(Path.cwd(), params)
else:
    make_report.open_scenes = lambda root, version: FakeScenes(Path.cwd())
    make_report.main(params)
"""


@dataclass
class Shown:
    """`root` has versions 1, 2 and 3 of reconpruner; `pipeline` is the flow run that ran the graph above elsewhere."""

    stack: Stack
    root: Path
    env: Mapping[str, str]  # as the worker's
    pipeline: str = ""

    def runs(self, stage: str) -> list[dict[str, Any]]:
        """MLflow's runs of a stage, by its own API."""
        body = json.dumps({"experiment_ids": ["1"], "filter": f"tags.`dvc.stage` = '{stage}'"}).encode()
        address = f"{self.stack.mlflow}/api/2.0/mlflow/runs/search"
        asked = urllib.request.Request(address, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())["runs"]
        return found

    @contextmanager
    def promoting(self, version: str) -> Iterator[str]:
        """A promotion that waits for its form: the id of its flow run. It ends with 0 once the form is submitted."""
        log = self.root / ".local/promote.log"
        words = [sys.executable, "-m", "flows.promote", "--version", version]
        with open(log, "w") as file:
            process = subprocess.Popen(words, cwd=self.root, env=self.env, stdout=file, stderr=file)
        try:
            until(lambda: self._paused() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield self._paused()
            assert process.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            process.kill()

    def _paused(self) -> str:
        asked = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
        return "".join(run["id"] for run in self.stack.ask("flow_runs/filter", asked))


@contextmanager
def shown(home: Path) -> Iterator[Shown]:
    """MLflow's and Prefect's servers as `make serve` starts them, a pipeline and versions in them."""
    root = home / "checkout"
    root.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, serving_pages(root) as world:
        patch.setenv("MLFLOW_TRACKING_URI", world.stack.mlflow)
        patch.chdir(root)
        world.pipeline = reproduced(world, home / "project")  # first: tracking makes the experiment
        params = make_checkout(root)
        for seed, l2_cm in enumerate((40.0, 40.1, 40.2)):
            register_version(params, seed, l2_cm)
        yield world
    shutil.rmtree(home)


@contextmanager
def serving_pages(root: Path) -> Iterator[Shown]:
    """The two servers, without worker and deployments: runs are started by the command line."""
    env = settings()
    mlflow, prefect, worker = with_logins(root / ".local", services(root, env), env)
    log = root.parent / "servers.log"
    (root / ".local").mkdir()
    with open(log, "w") as file:
        started = [
            subprocess.Popen(one.command, env=one.env, stdout=file, stderr=file, start_new_session=True)
            for one in (prefect, mlflow)
        ]
    try:
        for one, process in zip((prefect, mlflow), started, strict=True):
            until(lambda one=one, process=process: answers(one.health) or process.poll() is not None, 3 * PATIENCE_S)
            assert process.poll() is None, log.read_text()
        yield Shown(Stack(started[0], root, log, prefect.address, mlflow.address), root, worker.env)
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            process.wait(60)


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=20) as answer:
        return bool(answer.status == 200)
    return False


def reproduced(world: Shown, project: Path) -> str:
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
    env = {name: value for name, value in world.env.items() if not name.startswith("FASTDRIVE")}
    env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    words = [sys.executable, "-m", "flows.reproduce"]
    done = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (run,) = world.stack.ask("flow_runs/filter", {"flows": {"name": {"any_": ["reproduce"]}}})
    return str(run["id"])
