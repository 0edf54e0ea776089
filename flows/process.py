"""A command in a process group of its own: heard line by line, and stopped as a whole."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

STOP_S = 150  # from TERM to KILL: a training saves its state, which at full size takes a minute or two


def run(command: list[str], root: Path, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """Run `command`, output line by line (a bar's carriage returns too); its exit code. Stopped, all of it stops."""
    with (
        subprocess.Popen(
            command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
        kept(process.pid),
    ):
        try:
            for line in _lines(process):
                on_line(line)
        except BaseException:
            _stop(process, on_line)
            raise
    return process.returncode


@contextmanager
def kept(group: int) -> Iterator[None]:
    """Inside, the death of this process stops the process group too: Prefect kills a cancelled run after 30 s, in which
    a training has not saved.
    """
    command = [sys.executable, "-S", "-E", str(Path(__file__).with_name("keeper.py")), str(group), str(STOP_S)]
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, start_new_session=True) as keeper:
        assert keeper.stdin
        try:
            yield
        finally:
            with suppress(BrokenPipeError):
                keeper.stdin.write(b".")


def _lines(process: "subprocess.Popen[bytes]", give_up_s: float | None = None) -> Iterator[str]:
    """Until nobody holds the output any more, or until `give_up_s` of the monotonic clock."""
    assert process.stdout
    rest = b""
    while chunk := _read(process.stdout.fileno(), give_up_s):
        *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
        yield from (line.decode(errors="replace") for line in whole if line.strip())
    if rest.strip():
        yield rest.decode(errors="replace")


def _read(descriptor: int, give_up_s: float | None) -> bytes:
    if give_up_s is not None and not select([descriptor], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
        return b""
    return os.read(descriptor, 65536)


def _stop(process: "subprocess.Popen[bytes]", on_line: Callable[[str], None]) -> None:
    """TERM to the whole group (a training would hold its GPU), KILL to what is left.

    DVC itself ends at once; its stage, which saves, is waited for and heard: until nobody holds the output any more.
    """
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            for line in _lines(process, time.monotonic() + STOP_S):
                on_line(line)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
