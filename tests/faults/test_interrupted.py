"""Each stage of the real graph killed in the middle, or its clock set back: it ends with the same bytes.

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

# The cell to kill, and how long after its record begins: in the middle of its work. train_driver is frozen.
STAGES = {
    "make_world": 1.0,
    "generate_masks": 0.5,
    "train_pruner@recon": 0.3,
    "plan_routes@row_prior": 0.2,
    "score_plans": 0.1,
    "profile_efficiency": 0.5,
    "make_report": 0.1,
}
TIMINGS = ("results/latency", "results/throughput", "results/efficiency")  # measured, so never equal

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


def kill(root: Path, stage: str) -> None:
    """Run the stage alone, whatever is fresh, and kill its whole process group while it works."""
    shutil.rmtree(root / "runs/masks", ignore_errors=True)  # else there is nothing to do, and so nothing to stop
    records = root / "runs/unsent"
    before = set(records.glob("*.jsonl"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage],
        cwd=root,
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    give_up_s = time.monotonic() + 120
    while not set(records.glob("*.jsonl")) - before:
        assert process.poll() is None
        assert time.monotonic() < give_up_s
        time.sleep(0.002)
    time.sleep(STAGES[stage])
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(60) != 0, "it was done before the signal came"


@pytest.mark.parametrize("stage", STAGES)
def test_the_next_run_ends_with_the_same_bytes(reproduced: Path, stage: str) -> None:
    dvc(reproduced, "repro", stage)  # the report shows what profile_efficiency measured last
    expected = hashes(reproduced, stage)
    kill(reproduced, stage)
    # Unforced, DVC would take the outputs of the run before from its cache and prove nothing.
    assert f"Running stage '{stage}'" in dvc(reproduced, "repro", "--force", "--single-item", stage)
    assert hashes(reproduced, stage) == expected
    assert expected


# Loaded by Python before anything else: after 20 calls the wall clock is off by JUMP seconds.
JUMPING = """
import os, time
real, real_ns, asked = time.time, time.time_ns, [0]
def jump():
    asked[0] += 1
    return int(os.environ["JUMP"]) if asked[0] > 20 else 0
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + jump() * 10**9
"""


def made(root: Path, jump_s: int) -> dict[str, bytes]:
    """The data of two stages under a clock that jumps."""
    (root / "clock").mkdir(parents=True)
    (root / "clock/sitecustomize.py").write_text(JUMPING)
    shutil.copy(ROOT / "infra/params/smoke.yaml", root / "params.yaml")
    env = ENV | {"PYTHONPATH": f"{root}/clock:{ROOT}", "JUMP": str(jump_s)}
    for module in ("stages.make_world", "stages.generate_masks"):
        done = subprocess.run([sys.executable, "-m", module], cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    paths = [path for path in sorted((root / "data").rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_stages_make_the_same_bytes_when_the_clock_jumps(tmp_path: Path) -> None:
    assert made(tmp_path / "jumps", -3600) == made(tmp_path / "runs", 0)
