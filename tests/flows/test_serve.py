"""`make serve` around a small checkout: real servers, a real worker, runs that end in each way, a schedule."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
pytestmark = pytest.mark.slow

# The report stage of the small graph while the file `fault` is there: a child of its own, and a long wait.
WAIT = """
import subprocess, time
code = "import os, time; open('grandchild', 'w').write(str(os.getpid())); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
print("at work", flush=True)
time.sleep(600)
"""


def until(check: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true answer. Raises TimeoutError."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if answer := check():
            return answer
        time.sleep(0.3)
    raise TimeoutError(f"no answer in {patience_s:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """infra/serve.sh in `root`, on free ports."""

    root: Path
    process: "subprocess.Popen[bytes]" = field(init=False)
    ports: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in ("MLFLOW", "PREFECT")}
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
        env |= {f"FASTDRIVE_{name}_PORT": str(port) for name, port in self.ports.items()}
        env |= {"PYTHONPATH": str(ROOT), "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "1", "NO_PROXY": "*"}
        env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "FASTDRIVE_TRACKING": ""}
        with open(self.root / ".git/served.txt", "wb") as file:
            self.process = subprocess.Popen(
                [ROOT / "infra/serve.sh"], cwd=self.root, env=env, stdout=file, stderr=file, start_new_session=True
            )
        until(lambda: self.process.poll() is not None or self._is_up())
        assert self.process.poll() is None, (self.root / ".git/served.txt").read_text()

    def _is_up(self) -> bool:
        with suppress(OSError, AssertionError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.ports['MLFLOW']}/health", timeout=5).close()
            workers = self.ask("work_pools/fastdrive/workers/filter", {})
            return any(worker["status"] == "ONLINE" for worker in workers)
        return False

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """The answer of Prefect's API: POST where there is a body and no other method."""
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{self.ports['PREFECT']}/api/{path}"
        request = urllib.request.Request(address, data, {"content-type": "application/json"}, method=method)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite is busy: Prefect's own client repeats the call, too
                    raise
                time.sleep(1)

    def trigger(self, flow: str, **parameters: Any) -> str:
        """Start the deployment; the id of its run."""
        deployment = self.ask(f"deployments/name/{flow}/{flow}")
        body = {"parameters": parameters, "idempotency_key": str(uuid.uuid4())}
        return str(self.ask(f"deployments/{deployment['id']}/create_flow_run", body)["id"])

    def state(self, run: str) -> str:
        return str(self.ask(f"flow_runs/{run}")["state"]["type"])

    def ended(self, run: str) -> str:
        return str(until(lambda: (state := self.state(run)) in ENDS and state))

    def logs(self, run: str) -> str:
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return "\n".join(line["message"] for line in self.ask("logs/filter", body))

    def schedule(self) -> dict[str, Any]:
        (found,) = self.ask("deployments/name/retrain/retrain")["schedules"]
        return dict(found)

    def set_schedule(self, **changes: Any) -> None:
        found = self.schedule()
        self.ask(f"deployments/{found['deployment_id']}/schedules/{found['id']}", changes, "PATCH")

    def worker(self) -> psutil.Process:
        below = psutil.Process(self.process.pid).children(recursive=True)
        return next(one for one in below if {"worker", "start"} <= set(one.cmdline()))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(240)


@pytest.fixture(scope="module")
def root(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(template, tmp_path_factory.mktemp("served") / "project")


@pytest.fixture(scope="module")
def stack(root: Path) -> Iterator[Stack]:
    stack = Stack(root)
    yield stack
    if stack.process.poll() is None:
        stack.stop()


def stale(stack: Stack, frames: int, fault: str = "") -> None:
    """Every stage has something to do that no cache holds, and the last one a fault."""
    (stack.root / "grandchild").unlink(missing_ok=True)
    (stack.root / "params.yaml").write_text(f"frames: {frames}\npruners: [none, recon]\n")
    (stack.root / "fault").write_text(fault)


def at_work(stack: Stack) -> int:
    """The pid of the grandchild that a waiting run has started."""
    file = stack.root / "grandchild"
    return int(until(lambda: file.is_file() and file.read_text()))


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_of_the_deployment_completes_with_its_lines_in_the_log(stack: Stack) -> None:
    run = stack.trigger("reproduce")
    assert stack.ended(run) == "COMPLETED"
    assert (stack.root / "metrics/summary.json").is_file()
    until(lambda: "progress frames 6/20" in stack.logs(run))


def test_a_cancelled_run_leaves_no_process(stack: Stack) -> None:
    stale(stack, 5, WAIT)
    run = stack.trigger("reproduce")
    pid = at_work(stack)
    until(lambda: "at work" in stack.logs(run))
    stack.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert stack.ended(run) == "CANCELLED"
    until(lambda: gone(pid), 60)


def test_a_killed_flow_is_crashed_the_worker_comes_back_and_the_next_run_goes_on(stack: Stack) -> None:
    stale(stack, 6, WAIT)
    first = stack.trigger("reproduce")
    pid, worker = at_work(stack), stack.worker()
    flow = next(process for process in worker.children(recursive=True) if "prefect.engine" in process.cmdline())
    worker.kill()
    flow.kill()
    until(lambda: gone(pid), 60)
    (stack.root / "fault").unlink()
    second = stack.trigger("reproduce")
    assert stack.ended(second) == "COMPLETED"
    assert stack.state(first) == "CRASHED"


def test_a_schedule_switched_on_creates_a_run_that_starts(stack: Stack) -> None:
    """This graph has no make_report, so retrain refuses it: FAILED says that the run was created and started."""
    assert not stack.schedule()["active"]
    soon = datetime.now(UTC) + timedelta(seconds=60)  # the scheduler may look half a minute later
    stack.set_schedule(schedule={"interval": 86400, "anchor_date": soon.isoformat()}, active=True)
    body = {"flows": {"name": {"any_": ["retrain"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs = until(lambda: [run for run in stack.ask("flow_runs/filter", body) if run["state_type"] in ENDS], 180)
    assert runs[0]["auto_scheduled"]
    assert runs[0]["state_type"] == "FAILED"


def test_ctrl_c_ends_all_and_what_a_person_set_is_kept_by_the_next_start(stack: Stack) -> None:
    stale(stack, 7, WAIT)
    run = stack.trigger("reproduce")
    pid = at_work(stack)
    below = psutil.Process(stack.process.pid).children(recursive=True)
    assert stack.stop() == 0
    assert [process for process in below if not gone(process.pid)] == []
    assert gone(pid)
    again = Stack(stack.root)
    try:
        assert again.schedule()["active"]
        assert "interval" in again.schedule()["schedule"]
        assert again.state(run) in ("CRASHED", "CANCELLED", "FAILED")
    finally:
        again.stop()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = os.environ | {"FASTDRIVE_PREFECT_PORT": port, "FASTDRIVE_MLFLOW_PORT": str(free_port())}
        ended = subprocess.run([ROOT / "infra/serve.sh"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ended.returncode == 4
    assert "FASTDRIVE_PREFECT_PORT=" in ended.stderr
    assert port in ended.stderr
