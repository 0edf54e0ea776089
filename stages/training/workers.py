"""Reading ahead in worker processes, with torch's DataLoader."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.context import BaseContext
from types import ModuleType
from typing import Any

from torch.utils.data import DataLoader

from stages.core.errors import InputError, MachineError
from stages.training import reading
from stages.training.data import View
from stages.training.reading import Job, Read, Reader


def read_ahead(groups: Iterable[Sequence[Job]], view: View, workers: int, pin: bool = False) -> Iterator[Read]:
    """The groups, read, in order, by `workers` processes (0: by this one); the bits do not depend on how many.

    A worker has two groups in hand; `pin` puts them in page-locked memory, from where they go to a GPU in one piece.
    Workers end with the iterator, and with a parent that was killed. Raises the InputError that a group
    ended in, and MachineError when a worker was killed.
    """
    sampler: Any = groups  # any iterable of lists will do; what a DataLoader calls an index is a job here
    loader = DataLoader(
        Reader(view),
        batch_sampler=sampler,
        collate_fn=reading.as_it_is,
        num_workers=workers,
        multiprocessing_context=_context() if workers else None,
        worker_init_fn=reading.settle,
        pin_memory=pin,
    )
    with _bare_main():
        reads = iter(loader)
    try:
        while True:
            try:
                read = next(reads)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not workers or not _lost_worker(error):
                    raise
                raise _gone(error, workers) from error.with_traceback(None)
            if isinstance(read, InputError):
                raise read
            yield read
    finally:
        del reads  # now: when the garbage collector finds it in a traceback, each worker is waited for 5 s


def _context() -> BaseContext:
    """Workers are forked from a server that has no threads, locks or CUDA of ours, and has imported torch once."""
    forkserver.set_forkserver_preload(
        ["stages.training.own_group", reading.__name__, "cv2", "PIL.Image", "stages.masks.mask_set"]
    )
    return get_context("forkserver")


@contextmanager
def _bare_main() -> Iterator[None]:
    """Inside, new workers do not import the running stage, which would take each of them seconds."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _lost_worker(error: RuntimeError | OSError | EOFError) -> bool:
    """Whether `error` is of the way to a worker, not of the code that it runs (which comes as "Caught ... in ...")."""
    if isinstance(error, RuntimeError):
        return str(error).startswith(("DataLoader worker (pid", "Pin memory thread exited"))
    return not str(error).startswith("Caught ")  # a tensor was on its way from a process that is gone


def _gone(error: RuntimeError | OSError | EOFError, workers: int) -> MachineError:
    came = str(error).splitlines()[0] if str(error) else repr(error)
    return MachineError(
        expected=f"{workers} processes that read images until all are read",
        got=f"one was killed: {came} (out of memory, or of shared memory in /dev/shm?)",
        fix="lower train_pruner.workers in params.yaml (in a container also: raise --shm-size), and run it again",
    )
