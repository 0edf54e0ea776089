"""`make serve` around a small checkout: real servers, a real worker, runs that end well, fail, are cancelled, go on."""

import itertools
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from stack import Stack, serving, until

pytestmark = pytest.mark.slow

# What the report stage of the small graph does when the file `fault` is there: a child of its own, and a long wait.
WAIT = """
import subprocess, time
code = "import os, time; open('grandchild', 'w').write(str(os.getpid())); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
print("at work", flush=True)
time.sleep(600)
"""
FRAMES = itertools.count(4)
PRE_EMPTED = """
print("told to stop", flush=True)
os.remove("fault")
sys.exit(75)
"""


@pytest.fixture(scope="module")
def stack(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    root = shutil.copytree(template, tmp_path_factory.mktemp("served") / "project")
    with serving(root) as stack:
        yield stack


def at_work(stack: Stack) -> int:
    """The pid of the grandchild that a waiting run has started."""
    file = stack.root / "grandchild"
    return int(until(lambda: file.is_file() and file.read_text()))


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def stale(stack: Stack, fault: str) -> None:
    """Let every stage have something to do that no cache holds, and the last one a fault."""
    (stack.root / "grandchild").unlink(missing_ok=True)
    (stack.root / "params.yaml").write_text(f"frames: {next(FRAMES)}\npruners: [none, recon]\n")
    (stack.root / "fault").write_text(fault)


def test_a_run_of_the_deployment_completes_with_its_lines_in_the_log(stack: Stack) -> None:
    run = stack.trigger("reproduce")
    assert stack.ended(run) == "COMPLETED"
    assert (stack.root / "metrics/report.json").is_file()
    until(lambda: "progress frames 6/20" in stack.logs(run))


def test_a_fault_of_a_stage_fails_the_run_at_once(stack: Stack) -> None:
    stale(stack, "print('wanted masks; got none', flush=True)\nsys.exit(3)")
    run = stack.trigger("reproduce")
    assert stack.ended(run) == "FAILED"
    (task,) = (task for task in stack.tasks(run) if task["state"]["type"] == "FAILED")
    assert (task["name"], task["run_count"]) == ("report", 1)
    until(lambda: "wanted masks; got none" in stack.logs(run))


def test_a_pre_empted_stage_is_run_again(stack: Stack) -> None:
    stale(stack, PRE_EMPTED)
    run = stack.trigger("reproduce")
    assert stack.ended(run) == "COMPLETED"
    counts = {task["name"]: task["run_count"] for task in stack.tasks(run)}
    assert counts["report"] == 2


def test_lines_come_live_and_a_cancelled_run_leaves_no_process(stack: Stack) -> None:
    stale(stack, WAIT)
    run = stack.trigger("reproduce")
    pid = at_work(stack)
    until(lambda: "at work" in stack.logs(run))
    assert stack.state(run) == "RUNNING"
    stack.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert stack.ended(run) == "CANCELLED"
    until(lambda: gone(pid), 20)


def test_a_second_run_waits_for_the_first_and_a_killed_worker_comes_back(stack: Stack) -> None:
    stale(stack, WAIT)
    first = stack.trigger("reproduce")
    pid = at_work(stack)
    second = stack.trigger("reproduce")
    until(lambda: stack.ask(f"flow_runs/{second}")["state"]["name"] == "AwaitingConcurrencySlot", 60)
    worker = stack.worker()
    flow = next(process for process in worker.children(recursive=True) if process.children())
    flow.kill()  # as memory that runs out does: what it had started must go, too
    until(lambda: gone(pid), 30)
    worker.kill()
    until(lambda: stack.said.read_text().count("worker   http") == 2)
    (stack.root / "fault").unlink()
    assert stack.ended(second) == "COMPLETED"
    assert stack.state(first) == "CRASHED"


def test_ctrl_c_ends_with_0_and_leaves_no_process_of_a_run(stack: Stack) -> None:
    stale(stack, WAIT)
    left = stack.trigger("reproduce")
    pid = at_work(stack)
    weekly = schedule(stack)
    assert not weekly["active"]
    place = f"deployments/{weekly['deployment_id']}/schedules/{weekly['id']}"
    stack.ask(place, {"active": True}, "PATCH")
    below = psutil.Process(stack.process.pid).children(recursive=True)
    assert len(below) > 6
    began_s = time.monotonic()
    assert stack.stop(signal.SIGINT) == 0
    assert time.monotonic() - began_s < 120
    assert "all stopped" in stack.said.read_text()
    assert [process for process in below if not gone(process.pid)] == []
    assert gone(pid)
    (stack.root / "left").write_text(left)


def test_started_again_it_keeps_what_a_person_turned_on_and_no_run_stands_as_running(stack: Stack) -> None:
    with serving(stack.root) as again:
        assert schedule(again)["active"]
        assert again.state((again.root / "left").read_text()) in ("CRASHED", "CANCELLED", "FAILED")
        (again.root / "fault").unlink()
        assert again.ended(again.trigger("reproduce")) == "COMPLETED"


def schedule(stack: Stack) -> dict[str, Any]:
    (found,) = stack.ask("deployments/name/retrain/retrain")["schedules"]
    return dict(found)
