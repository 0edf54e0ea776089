"""The deployment `retrain` on a real server and worker: the same small graph, the registry behind MLflow's server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from registered import GIT
from retraining import FOUR, ROOT, make_small_checkout
from stack import serving

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own
ASK = "from stages.registry.versions import Registry; print(Registry('reconpruner').aliases())"


def test_a_run_of_the_deployment_leaves_a_branch_and_a_candidate_on_the_server(tmp_path: Path) -> None:
    checkout, manifest = make_small_checkout(tmp_path)
    manifest.write_text(FOUR)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with serving(checkout, PYTHONPATH=path) as stack:
        run = stack.trigger("retrain", when="drift")
        assert stack.ended(run, 1200) == "COMPLETED", stack.logs(run)
        env = os.environ | {"MLFLOW_TRACKING_URI": stack.mlflow, "PYTHONPATH": path, "NO_PROXY": "*"}
        asked = subprocess.run([sys.executable, "-c", ASK], env=env, check=True, capture_output=True, text=True)
        assert "'candidate': '1'" in asked.stdout
    assert len(git(checkout, "for-each-ref", "refs/heads/retrain").splitlines()) == 1
    assert git(checkout, "status", "--porcelain") == ""


def git(checkout: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=checkout, check=True, capture_output=True, text=True).stdout
