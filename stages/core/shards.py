"""Work spread over local processes, a Ray cluster, SLURM arrays and the GPUs of a machine.

Ray needs the extra `[ray]`; every node must see the checkout and its data under the same path (a shared file system).
"""

import json
import multiprocessing
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stages.core import errors
from stages.core.errors import InputError, MachineError, ParamsError

if TYPE_CHECKING:  # pydantic, which a bare GPU machine has not
    from stages.core.params import RayPool

T = TypeVar("T")
R = TypeVar("R")

POLL_S = 0.25  # how often a worker checks that its parent still wants it
RETRIES = 3  # of an item whose Ray actor died; Ray tries for ever, also one that needs too much memory each time


def map_shards(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Yield `function` of each item, in order; at most two items per worker are in work before the reader takes them.

    One worker: in this process. More: `function` and items must be picklable (a function at the top of a module).
    An exception of `function` comes through as it is, with a note naming the item. Raises MachineError when a worker
    was killed. When the reader stops early, is interrupted or killed, the workers end within a second.
    """
    if workers == 1:
        for item in items:
            yield _result(partial(function, item), item)
        return
    context = multiprocessing.get_context("spawn")  # a forked child would inherit threads and locks of torch and MLflow
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(items))), context, initializer=_watch, initargs=(os.getpid(), stop)
    )
    pending: deque[tuple[Callable[[], R], T]] = deque()
    try:
        for item in items:
            pending.append((pool.submit(function, item).result, item))
            if len(pending) > 2 * workers:
                yield _result(*pending.popleft())
        while pending:
            yield _result(*pending.popleft())
        pool.shutdown(wait=True)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _result(call: Callable[[], R], item: object) -> R:
    try:
        return call()
    except BrokenProcessPool as error:
        raise MachineError(
            expected=f"a worker process that finishes {item!r:.200}",
            got="it was killed (out of memory?)",
            fix="lower `workers` in params.yaml and run the same command again",
        ) from error
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


def map_on_ray(function: Callable[[T], str], items: Sequence[T], pool: "RayPool") -> Iterator[str]:
    """Yield `function` of each item, as Ray's actors end them; function and items must be picklable, the results short.

    An InputError of `function` comes unchanged. Raises MachineError without ray, or when an item always ends its actor.
    """
    try:
        import ray
    except ImportError as error:
        raise MachineError(
            expected="ray, for engine: ray",
            got="no such package here",
            fix="pip install '.[ray]', or set engine: local in params.yaml",
        ) from error
    root = str(Path.cwd())
    paths = {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    ray.init(address=pool.address, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": paths})
    ray.data.DataContext.get_current().enable_progress_bars = False
    # A row per item, one in a block: an actor gets one at a time, and no more than `shards_ahead` wait for it
    numbers = ray.data.from_items([{"item": number} for number in range(len(items))], override_num_blocks=len(items))
    actors = ray.data.ActorPoolStrategy(
        size=min(pool.actors, len(items)), max_tasks_in_flight_per_actor=1 + pool.shards_ahead
    )
    done = numbers.map(
        RayWorker,
        fn_constructor_args=(function, list(items), root),
        compute=actors,
        num_cpus=pool.cpus_per_actor,
        num_gpus=pool.gpus_per_actor,
        max_task_retries=RETRIES,
    )
    try:
        for row in done.iter_rows():
            if row["error"]:
                name, parts = json.loads(row["error"])
                raise getattr(errors, name, InputError)(**parts)
            yield row["result"]
    except ray.exceptions.RayActorError as error:
        raise MachineError(
            expected=f"actors that live through an item ({1 + RETRIES} tries of one)",
            got=str(error).splitlines()[0],
            fix="look into Ray's logs of that node (out of memory?), and run the same command again",
        ) from error
    finally:
        ray.shutdown()


class RayWorker:
    """One actor: a process that calls `function` on one item after another; what it loads stays loaded."""

    def __init__(self, function: Callable[[Any], str], items: list[Any], root: str) -> None:
        os.chdir(root)
        self.function, self.items = function, items

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Return the result, or the InputError as JSON: Ray would wrap it and lose its exit code."""
        try:
            return {"result": self.function(self.items[row["item"]]), "error": ""}
        except InputError as error:
            parts = {"expected": error.expected, "got": error.got, "fix": error.fix}
            return {"result": "", "error": json.dumps([type(error).__name__, parts])}


def share_of(items: Sequence[T], shard: str, environment: Mapping[str, str] = os.environ) -> Sequence[T]:
    """Return every n-th of the items, from the i-th on. `shard` is `i/n`, i counted from 0, or `slurm`.

    Raises ParamsError for another text, and for an array that is no whole range, whose tasks would leave items out.
    """
    if shard == "slurm":
        i, n = _of_slurm(environment)
    elif (match := re.fullmatch(r"(\d+)/(\d+)", shard)) and int(match[1]) < int(match[2]):
        i, n = int(match[1]), int(match[2])
    else:
        expected = "--shard i/n with i from 0 to n - 1, or --shard slurm"
        raise ParamsError(expected=expected, got=repr(shard), fix="--shard 0/1 is all")
    return items[i::n]


def _of_slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX", "STEP")]
    try:
        task, count, low, high, step = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as error:
        fix = "start it with sbatch --array, or name the share with --shard i/n"
        raise ParamsError(expected=", ".join(names), got=f"none: {error}", fix=fix) from error
    if (high - low) // step + 1 != count:
        fix = "submit the whole array again (finished shards are skipped), or name the share with --shard i/n"
        got = f"{count} tasks of {low}-{high}"
        raise ParamsError(expected="a whole array, as --array=0-63", got=got, fix=fix)
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
