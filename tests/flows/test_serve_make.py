"""`make serve` as a person types it, and Ctrl-C as a terminal sends it: to make and all in its group at once."""

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
from stack import ROOT, serving
from test_serve_stack import WAIT, at_work, gone, stale

pytestmark = pytest.mark.slow


def test_the_target_starts_all_and_one_ctrl_c_stops_it_with_a_run_at_work(template: Path, tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("no make here; next: apt-get install make, as root")
    root = shutil.copytree(template, tmp_path / "project")
    environment(root)
    with serving(root, ["make", "serve"]) as stack:
        stale(stack, WAIT)
        run = stack.trigger("reproduce")
        pid = at_work(stack)
        assert stack.state(run) == "RUNNING"
        below = psutil.Process(stack.process.pid).children(recursive=True)
        assert len(below) > 7
        os.killpg(stack.process.pid, signal.SIGINT)
        assert stack.process.wait(200) in (-signal.SIGINT, 130, 2)  # make tells how it was stopped
        assert "all stopped" in stack.said.read_text()
        assert [process for process in below if not gone(process.pid)] == []
        assert gone(pid)


def environment(root: Path) -> None:
    """What make looks for: its .venv, here the one that runs this test, with the stamp of the lock file."""
    shutil.copy(ROOT / "Makefile", root)
    lock = shutil.copy(ROOT / "requirements.lock", root)
    (root / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith(".lock-"):
            (root / ".venv" / path.name).symlink_to(path)
    digest = hashlib.sha256(Path(lock).read_bytes()).hexdigest()
    (root / ".venv" / f".lock-{digest[:16]}").touch()
