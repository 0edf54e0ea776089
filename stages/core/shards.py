"""Work spread over local processes, SLURM arrays and the GPUs of a machine. stages/core/ray.py is the same on Ray."""

import multiprocessing
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import TypeVar

from stages.core.errors import MachineError, ParamsError

T = TypeVar("T")
R = TypeVar("R")

POLL_S = 0.25  # how often a worker checks that its parent still wants it


def map_shards(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Yield `function` of each item, in order; at most two items per worker are in work before the reader takes them.

    One worker: in this process. More: `function` and items must be picklable (a function at the top of a module).
    An exception of `function` comes through as it is, with a note naming the item. Raises MachineError when a worker
    was killed. When the reader stops early, is interrupted or killed, the workers end within a second.
    """
    if workers == 1:
        for item in items:
            yield _named(lambda item=item: function(item), item)  # type: ignore[misc]
        return
    context = multiprocessing.get_context("spawn")  # a forked child would inherit threads and locks of torch and MLflow
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(items))), context, initializer=_watch, initargs=(os.getpid(), stop)
    )
    pending: deque[tuple[Future[R], T]] = deque()
    rest = iter(items)
    try:
        for item in rest:
            pending.append((pool.submit(function, item), item))
            if len(pending) > 2 * workers:
                yield _result(*pending.popleft())
        while pending:
            yield _result(*pending.popleft())
        pool.shutdown(wait=True)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: "Future[R]", item: T) -> R:
    try:
        return _named(future.result, item)
    except BrokenProcessPool as error:
        raise MachineError(
            expected=f"a worker process that finishes {item!r:.200}",
            got="it was killed (out of memory?)",
            fix="lower `workers` in params.yaml and run the same command again",
        ) from error


def _named(call: Callable[[], R], item: object) -> R:
    try:
        return call()
    except Exception as error:
        error.add_note(f"while working on {item!r:.200}")
        raise


def _watch(parent: int, stop: Event) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent is gone or has set `stop`."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent and not stop.is_set():
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def share_of(items: Sequence[T], shard: str, environment: Mapping[str, str] = os.environ) -> Sequence[T]:
    """Return every n-th of the items, from the i-th on. `shard` is `i/n`, i counted from 0, or `slurm`.

    Raises ParamsError for another text, and for an array that is no whole range, whose tasks would leave items out.
    """
    i, n = _of_slurm(environment) if shard == "slurm" else _by_hand(shard)
    return items[i::n]


def _by_hand(shard: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not int(match[1]) < int(match[2]):
        raise ParamsError(
            expected="--shard i/n with i from 0 to n - 1, or --shard slurm", got=repr(shard), fix="--shard 0/1 is all"
        )
    return int(match[1]), int(match[2])


def _of_slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX", "STEP")]
    try:
        task, count, low, high, step = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as error:
        got = f"no number in {error}" if isinstance(error, KeyError) else str(error)
        fix = "start it with sbatch --array, or name the share with --shard i/n"
        raise ParamsError(expected=", ".join(names), got=got, fix=fix) from error
    if (high - low) // step + 1 != count:
        raise ParamsError(
            expected="a whole array, as --array=0-63",
            got=f"{count} tasks of {low}-{high}",
            fix="submit the whole array again (finished shards are skipped), or name the share with --shard i/n",
        )
    return (task - low) // step, count


def turn_of(process: str, gpus: int) -> int:
    """Return the GPU of a worker by the number, from 1, that ends its process's name; 0 for a process without one."""
    number = re.search(r"(\d+)$", process)
    return (int(number[1]) - 1) % gpus if number else 0


def own_device() -> str:
    """Return `cuda:<n>` where there is a GPU, else `cpu`; the workers of a pool take the GPUs in turn."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{turn_of(multiprocessing.current_process().name, gpus)}" if gpus else "cpu"
