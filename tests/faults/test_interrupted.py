"""Each stage of the real graph killed or stopped in the middle: the next `dvc repro` ends with the same bytes.

The smoke profile in a checkout of its own; minutes, so `make test-slow`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

# The cell to stop, and how long after its record begins: late enough to be in the middle of its writing.
STAGES = {
    "make_world": 1.0,
    "train_driver": 0.5,
    "generate_masks": 0.5,
    "train_pruner@recon": 0.3,
    "train_pruner@mask_prediction": 0.1,
    "plan_routes@row_prior": 0.2,
    "plan_trained@recon": 0.2,
    "plan_references@oracle": 0.2,
    "plan_bounds@constant_velocity": 0.0,
    "prepare_truths": 1.5,
    "score_plans@row_prior": 0.0,
    "score_trained@recon": 0.0,
    "score_references@oracle": 0.0,
    "score_bounds@constant_velocity": 0.0,
    "profile_efficiency@row_prior": 0.5,
    "profile_trained@recon": 0.5,
    "make_report": 0.1,
}
TIMINGS = ("results/latency/", "results/throughput/")  # measured, so never equal

ENV = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "FASTDRIVE_TRACKING": "later",
    "OMP_NUM_THREADS": "1",
}


def dvc(root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=root,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def checkout(root: Path) -> Path:
    """What git holds or would take of this checkout, committed elsewhere, with the smoke profile."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    shutil.copy(root / "infra/params/smoke.yaml", root / "params.yaml")
    return root


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the graph has run without interruption."""
    root = checkout(tmp_path_factory.mktemp("smoke"))
    dvc(root, "repro")
    return root


def hashes(root: Path, stage: str) -> dict[str, str]:
    outs = yaml.safe_load((root / "dvc.lock").read_text())["stages"][stage]["outs"]
    return {out["path"]: out["md5"] for out in outs if not out["path"].startswith(TIMINGS)}


def interrupt(root: Path, stage: str, how: signal.Signals) -> None:
    """Run the stage alone, whatever is fresh, and send the signal to its whole process group while it works."""
    shutil.rmtree(root / "runs/masks", ignore_errors=True)  # else there is nothing to do, and so nothing to stop
    spool = root / "runs/unsent"
    before = set(spool.glob("*.jsonl"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage],
        cwd=root,
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    give_up = time.monotonic() + 120
    while not set(spool.glob("*.jsonl")) - before:
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.002)
    time.sleep(STAGES[stage])
    os.killpg(process.pid, how)
    assert process.wait(60) != 0, "it was done before the signal came"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_next_run_ends_with_the_same_bytes(reproduced: Path, stage: str, how: signal.Signals) -> None:
    dvc(reproduced, "repro", stage)  # the report shows what profile_efficiency measured last
    wanted = hashes(reproduced, stage)
    interrupt(reproduced, stage, how)
    # Unforced, DVC would take the outputs of the run before from its cache and prove nothing.
    assert f"Running stage '{stage}'" in dvc(reproduced, "repro", "--force", "--single-item", stage)
    assert hashes(reproduced, stage) == wanted
    assert wanted
