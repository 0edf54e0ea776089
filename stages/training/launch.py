"""One process per GPU of this machine, started by the stage itself: `dvc repro` then uses all of them.

Several machines: start `torchrun --nnodes ... -m stages.train_pruner <name>` on each; nothing is launched inside it.
"""

import os
import signal
import sys
import threading
import time

import torch

from stages.core.errors import TryAgainError

SAVING_S = 120.0  # after SIGTERM, in which a rank may finish its step and save before it is killed
LOOK_S = 1.0
LAUNCHER = "FASTDRIVE_LAUNCHER"  # process id, for ranks that first look when it may be gone already


def end_with_launcher() -> None:
    """In a process that torchrun or `launch` started: take the end of that one, also by kill -9, as a SIGTERM.

    Ranks would go on without it, hold their GPUs and write into the folder of the run that comes next.
    """
    if "RANK" in os.environ:
        launcher = int(os.environ.get(LAUNCHER) or os.getppid())
        threading.Thread(target=_follow, args=[launcher], daemon=True).start()


def _follow(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SAVING_S)
    os._exit(TryAgainError.exit_code)  # it hangs, perhaps on a rank that is gone


def ranks() -> int:
    """How many processes to start here: FASTDRIVE_RANKS, else one per GPU; 1 inside a process that was started so."""
    if "RANK" in os.environ:
        return 1
    return int(os.environ.get("FASTDRIVE_RANKS", 0)) or torch.cuda.device_count() or 1


def launch(count: int, module: str, *arguments: str) -> None:
    """`python -m module arguments` in `count` processes that find each other; returns when all have ended well.

    Else the process ends with the exit code of the first that failed. Raises TryAgainError on SIGTERM, which the
    processes get too: each saves and ends, within SAVING_S.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        shutdown_timeout=int(SAVING_S),
    )
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code >= 0 else 128 - code)  # killed by a signal: as a shell says it, and as the flow retries
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        came = f"{error.sigval.name}, passed on to {count} processes"
        then = "run the same command again; it goes on from the last checkpoint"
        raise TryAgainError(expected=f"{module} to end", got=came, fix=then) from error
