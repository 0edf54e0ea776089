"""Stops a process group when the process that started it is gone, however it went (kill -9 too).

python keeper.py <group> <seconds from TERM to KILL>     # standard input is a pipe that the starter holds
"""

import os
import signal
import sys
import time
from contextlib import suppress


def main(group: int, patience_s: float) -> None:
    """A byte says that the group has ended by itself; the end of the pipe without one, that the starter died."""
    if sys.stdin.buffer.read(1):
        return
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
