"""Prefect's server away before a flow, or gone while it runs: a line, no stage stopped for it, nothing left running."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import reproduce
from flows.dvc import Dvc

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  first: {cmd: python stage.py first, outs: [first.txt]}
  second: {cmd: python stage.py second, deps: [first.txt], outs: [second.txt]}
"""
STAGE = """
import sys, time
from pathlib import Path
for i in range(20 if sys.argv[1] == "second" else 1):
    print(f"12:00:00 progress nap {i}/20 (1 %)", file=sys.stderr, flush=True)
    time.sleep(1)
Path(f"{sys.argv[1]}.txt").write_text("made")
"""


def test_no_stage_is_stopped_for_a_bar_that_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    output: list[str] = []

    def away(*_: Any, **__: Any) -> None:
        calls.append("asked")
        raise ConnectionError("All connection attempts failed")

    monkeypatch.setattr(reproduce.artifacts, "create_progress_artifact", away)
    bars = reproduce.Bars("report", output.append)
    for frame in range(3):
        bars.update(f"12:00:00 progress frames {frame}/3 (9 %)")
    assert calls == ["asked"]  # each would take a minute
    assert len(output) == 1
    assert "All connection attempts failed" in output[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pygtrie, in DVC
def test_a_server_that_dies_in_a_flow_leaves_no_process_and_the_next_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "stage.py").write_text(STAGE)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    output = tmp_path / "said.txt"
    with open(output, "w") as file:
        flow = subprocess.Popen(
            [sys.executable, "-m", "flows.reproduce"],
            cwd=tmp_path,
            env=env | {"PYTHONPATH": str(ROOT), "PREFECT_CLIENT_MAX_RETRIES": "1"},
            stdout=file,
            stderr=file,
        )
    end_s = time.monotonic() + 300
    while "progress nap 2/20" not in output.read_text():
        assert flow.poll() is None, output.read_text()
        assert time.monotonic() < end_s
        time.sleep(0.5)
    begun = psutil.Process(flow.pid).children(recursive=True)
    for process in begun:
        if "uvicorn" in process.cmdline():
            process.kill()
    assert flow.wait(300) == 75
    time.sleep(1)
    left = [process for process in begun if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not left
    assert "no more progress bars" in output.read_text()
    assert "expected Prefect's server until the flow ended" in output.read_text()
    dvc = Dvc(tmp_path)
    assert not dvc.plan()["first"]
    dvc.reproduce("second")
    assert not any(dvc.plan().values())
