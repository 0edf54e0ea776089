"""Training runs in a process of their own: `train_tiny.py <folder> <options as JSON> ...`; PAUSE_S slows each step."""

import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from tiny_pruner import make_module, make_options, make_samples  # noqa: E402

from stages.training.trainer import Trainer  # noqa: E402


def pause(values: dict[str, float], step: int) -> None:
    """Time in which the process may be killed."""
    time.sleep(float(os.environ.get("PAUSE_S", 0)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for place, changes in enumerate(sys.argv[2:]):
        options, folder = make_options(**json.loads(changes)), Path(f"{sys.argv[1]}{place}")
        trainer = Trainer(make_module(options), options, folder)
        history = trainer.run(make_samples(10), make_samples(4, seed=1), pause)
        if trainer.rank == 0:
            (folder / "history.json").write_text(json.dumps(history))
