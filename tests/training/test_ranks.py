import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_pruner import make_options, train

from stages.training import resume
from stages.training.evaluation import Row

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SCRIPT = Path(__file__).parent / "train_tiny.py"


def ranks(count: int, *arguments: str) -> None:
    """tests/training/train_tiny.py in `count` processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    subprocess.run([*torchrun, str(SCRIPT), *arguments], check=True)


def losses_of(history: list[Row]) -> torch.Tensor:
    return torch.tensor([[row[name] for name in ("loss", "loss_fore", "loss_back", "keep_share")] for row in history])


@pytest.mark.process
@pytest.mark.parametrize("stages", [(1,), pytest.param((0, 2), marks=pytest.mark.slow)])
def test_two_ranks_take_the_steps_of_one_and_each_goes_on_where_the_other_stopped(
    tmp_path: Path, stages: tuple[int, ...]
) -> None:
    runs = [{"zero_stage": stage, "steps": 8, "checkpoint_every_s": 1e-9, "checkpoints_kept": 30} for stage in stages]
    single = [losses_of(train(tmp_path / f"one{place}", make_options(**run))[1]) for place, run in enumerate(runs)]
    for place in range(len(runs)):
        for step in range(5, 9):
            shutil.rmtree(tmp_path / f"one{place}" / resume.tag_of(step))
    ranks(2, str(tmp_path / "one"), *map(json.dumps, runs))
    for place, losses in enumerate(single):
        folder = tmp_path / f"one{place}"
        torch.testing.assert_close(losses_of(history_of(folder)), losses, atol=1e-4, rtol=0)
        for step in range(7, 9):
            shutil.rmtree(folder / resume.tag_of(step))
        _, rest = train(folder, make_options(**runs[place]))
        torch.testing.assert_close(losses_of(rest), losses, atol=1e-4, rtol=0)


def history_of(folder: Path) -> list[Row]:
    history: list[Row] = json.loads((folder / "history.json").read_text())
    return history
