import os
import sys
import time
from pathlib import Path

import pytest

from flows.process import run


def test_stopping_a_run_stops_its_grandchildren(tmp_path: Path) -> None:
    grandchild = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", child], tmp_path, os.environ, stop)
    time.sleep(0.2)
    stat = Path(f"/proc/{pids[0]}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_stage_that_saves_when_told_to_stop_is_given_the_time(tmp_path: Path) -> None:
    """DVC ends at SIGTERM at once, its stage a second later."""
    stage = """
import signal, sys, time
def save(*_):
    time.sleep(1)
    open("saved", "w").close()
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("at work", flush=True)
time.sleep(60)
"""

    heard: list[str] = []

    def stop(line: str) -> None:
        heard.append(line)
        if line == "at work":
            raise KeyboardInterrupt

    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(
            [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"],
            tmp_path,
            os.environ,
            stop,
        )
    assert (tmp_path / "saved").exists()
    assert heard == ["at work", "saved"]
    assert time.monotonic() - began_s < 30


def test_a_bar_comes_as_lines_and_bad_bytes_do_no_harm(tmp_path: Path) -> None:
    lines: list[str] = []
    program = "import sys; sys.stdout.buffer.write(b'10 %\\r20 %\\r\\nlast \\xff')"
    assert run([sys.executable, "-c", program], tmp_path, os.environ, lines.append) == 0
    assert lines == ["10 %", "20 %", "last \ufffd"]
