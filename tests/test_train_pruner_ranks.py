import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_workspace import REPOSITORY, enter, write_params

from stages import train_pruner
from stages.core.params import Params, read_params
from stages.training import engine

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.process,
]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Four steps on 12 images, in a working directory of their own."""
    return enter(tmp_path, monkeypatch)


COMMAND = [sys.executable, "-m", "stages.train_pruner", "recon"]
RUNS = Path("runs/train_pruner")


def environment(ranks: int) -> dict[str, str]:
    return os.environ | {"FASTDRIVE_RANKS": str(ranks), "FASTDRIVE_TRACKING": "later", "PYTHONPATH": str(REPOSITORY)}


def run(ranks: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(COMMAND, env=environment(ranks), capture_output=True, text=True)


def started(ranks: int, **changes: object) -> "subprocess.Popen[str]":
    """A training of 60 steps in a session of its own, which has saved its first checkpoint."""
    write_params(steps=60, checkpoint_every_s=1e6, checkpoints_kept=100, **changes)
    process = subprocess.Popen(
        COMMAND, env=environment(ranks), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    give_up_s = time.monotonic() + 300
    while not list(RUNS.glob("*/step_*/manifest.json")):  # the first epoch was the best so far
        assert process.poll() is None
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_sigterm_to_the_whole_group_leaves_the_loaders_to_the_training(params: Params) -> None:
    process = started(1, workers=2, token_cache=None, feature_memory_gb=0.0)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 75, said[-2000:]
    assert re.search(r"SIGTERM after step \d+, which is saved in", said)


@pytest.mark.slow
def test_ranks_end_with_a_launcher_that_was_killed_and_the_same_command_goes_on(params: Params) -> None:
    process = started(2)
    process.kill()
    process.communicate(timeout=300)  # at the end of all that hold its output, the ranks
    done = int(max(path.parent.name for path in RUNS.glob("*/step_*/manifest.json")).removeprefix("step_"))
    assert 0 < done < 60
    again = run(2)
    assert again.returncode == 0, again.stderr[-2000:]
    assert f"resumed at step_{done:07d}" in again.stderr


def test_a_rank_whose_launcher_was_gone_before_it_first_looked_ends_too() -> None:
    program = "import time; from stages.training import engine; engine.end_with_launcher(); time.sleep(60)"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    env = environment(1) | {"RANK": "0", engine.LAUNCHER: str(gone.pid)}
    assert subprocess.run([sys.executable, "-c", program], env=env, timeout=50).returncode == -signal.SIGTERM


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_saves_ends_with_75_and_the_same_command_goes_on(
    params: Params, ranks: int, caplog: pytest.LogCaptureFixture
) -> None:
    process = started(ranks)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 75, said[-2000:]
    assert re.search(r"SIGTERM after step \d+, which is saved in", said)
    assert not Path("models/recon").exists()
    caplog.set_level(logging.INFO)
    train_pruner.main(read_params())  # on one rank
    assert "resumed at step_" in caplog.text
    history = Path("results/training/recon/history.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in history if ",train," in line] == list(range(1, 61))
