"""The deployment `retrain` on a real server and worker: the same small graph, the registry behind MLflow's server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from registered import GIT
from retraining import FOUR, ROOT, make_small_checkout
from stack import serving

pytestmark = pytest.mark.slow
ASK = """
import sys
from stages.registry.versions import Registry
registry = Registry("reconpruner")
if sys.argv[1:]:
    registry.point(*sys.argv[1:])
print(sorted((alias, version) for alias, version in registry.aliases().items()))
"""


def test_the_deployment_trains_on_drift_alone_and_its_versions_are_on_the_server(tmp_path: Path) -> None:
    checkout, manifest = make_small_checkout(tmp_path)
    manifest.write_text(FOUR)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with serving(checkout, PYTHONPATH=path) as stack:
        env = os.environ | {"MLFLOW_TRACKING_URI": stack.mlflow, "PYTHONPATH": path, "NO_PROXY": "*"}

        def aliases(*words: str) -> str:
            command = [sys.executable, "-c", ASK, *words]
            return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

        first = stack.trigger("retrain", when="changed")
        assert stack.ended(first) == "COMPLETED", stack.logs(first)
        assert "('candidate', '1')" in aliases()
        aliases("champion", "1")
        (branch,) = git(checkout, "for-each-ref", "--format=%(refname:short)", "refs/heads/retrain").split()
        git(checkout, "merge", "--quiet", branch)
        manifest.write_text(FOUR.replace("0.3", "0.5"))
        second = stack.trigger("retrain", when="drift")
        assert stack.ended(second) == "COMPLETED", stack.logs(second)
        assert "('candidate', '2')" in aliases()
        assert "drift, or no champion yet: training" in stack.logs(second)
    assert git(checkout, "status", "--porcelain") == ""


def git(checkout: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=checkout, check=True, capture_output=True, text=True).stdout
