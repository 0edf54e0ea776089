"""All processes below this one, also those whose parent is gone: found and stopped."""

import ctypes
import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress

import psutil

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """From now on a grandchild whose parent dies becomes a child of this process (Linux), so that it can be found."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stop_all(patience_s: float, spared: Collection[int] = ()) -> None:
    """TERM to every descendant, KILL to those that are there after `patience_s`; returns when none is left.

    The flow runs of a worker stand in sessions of their own: the worker's group is not enough. Process groups that are
    `spared` are left alone.
    """
    end_s = time.monotonic() + patience_s
    told: set[int] = set()
    while below := _below(spared):
        late = time.monotonic() > end_s
        for process in below:
            if late or process.pid not in told:
                told.add(process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL if late else signal.SIGTERM)
        psutil.wait_procs(below, timeout=0.3)


def reap(but: Collection[int]) -> None:
    """Let the adopted that have ended go; `but` are those whose end somebody waits for."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if process.pid not in but and process.status() == psutil.STATUS_ZOMBIE:
                process.wait(timeout=0)


def _below(spared: Collection[int]) -> list[psutil.Process]:
    """Those at work; those that only wait to be reaped are reaped."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if process.status() == psutil.STATUS_ZOMBIE:
                process.wait(timeout=0)
            elif os.getpgid(process.pid) not in spared:
                found.append(process)
    return found
