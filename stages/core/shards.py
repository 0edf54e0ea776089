"""Work spread over local processes: results in order, errors with the item named, and no process left behind."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import TypeVar

from stages.core.errors import MachineError

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 0.25  # how often a worker looks whether its parent still wants it


def map_shards(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """`function` of each item, in order; at most two items per worker are under way ahead of the reader.

    One worker: in this process. More: `function` and items must be picklable (a function at the top of a module).
    An exception of `function` comes through as it is, with a note naming the item. Raises MachineError when a worker
    was killed. When the reader stops early, is interrupted or killed, the workers end within a second.
    """
    if workers == 1:
        for item in items:
            yield _named(lambda item=item: function(item), item)  # type: ignore[misc]
        return
    context = get_context("spawn")  # a forked child would inherit threads and locks of torch and MLflow
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(items))), context, initializer=_watch, initargs=(os.getpid(), stop)
    )
    under_way: deque[tuple[Future[R], T]] = deque()
    rest = iter(items)
    try:
        for item in rest:
            under_way.append((pool.submit(function, item), item))
            if len(under_way) > 2 * workers:
                yield _result(*under_way.popleft())
        while under_way:
            yield _result(*under_way.popleft())
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

    def look() -> None:
        while os.getppid() == parent and not stop.is_set():
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
