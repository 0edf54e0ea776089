"""A real stack of `python -m flows.serve` around a small checkout, on free ports, for tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Stack:
    """`process` is the command; `prefect` and `mlflow` are addresses."""

    process: "subprocess.Popen[str]"
    root: Path
    said: Path
    prefect: str
    mlflow: str

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """The answer of Prefect's API: POST where there is a body and no other method."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{self.prefect}/api/{path}", data, {"content-type": "application/json"}, method=method
        )
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite is busy: Prefect's own client asks again, too
                    raise
                time.sleep(1)

    def trigger(self, flow: str, **parameters: Any) -> str:
        """Start the deployment; the id of its run."""
        found = self.ask(f"deployments/name/{flow}/{flow}")
        asked = {"parameters": parameters, "idempotency_key": str(uuid.uuid4())}
        return str(self.ask(f"deployments/{found['id']}/create_flow_run", asked)["id"])

    def state(self, run: str) -> str:
        return str(self.ask(f"flow_runs/{run}")["state"]["type"])

    def ended(self, run: str, patience_s: float = PATIENCE_S) -> str:
        return str(until(lambda: (state := self.state(run)) in ENDS and state, patience_s))

    def tasks(self, run: str) -> list[dict[str, Any]]:
        asked = {"flow_runs": {"id": {"any_": [run]}}}
        found: list[dict[str, Any]] = self.ask("task_runs/filter", asked)
        return found

    def logs(self, run: str) -> str:
        asked = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return "\n".join(line["message"] for line in self.ask("logs/filter", asked))

    def worker(self) -> psutil.Process:
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if {"worker", "start"} <= set(process.cmdline()):
                    return process
        raise AssertionError("no worker")

    def stop(self, by: int = signal.SIGINT) -> int:
        self.process.send_signal(by)
        return self.process.wait(200)


def until(asked: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true answer. Raises TimeoutError."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if answer := asked():
            return answer
        time.sleep(0.3)
    raise TimeoutError(f"nothing came in {patience_s:.0f} s")


def settings(**more: str) -> dict[str, str]:
    """The environment of a stack on free ports."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    path = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    ports = {f"FASTDRIVE_{name}_PORT": str(free_port()) for name in ("MLFLOW", "PREFECT", "WORKER")}
    return env | ports | {"PYTHONPATH": path, "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "1", "NO_PROXY": "*"} | more


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(root: Path, command: Sequence[str] = (sys.executable, "-m", "flows.serve"), **more: str) -> Iterator[Stack]:
    """A stack that has told that all is well, in a process group of its own, as a shell starts it."""
    env, said = settings(**more), root.parent / "said.txt"
    with open(said, "w") as file:
        process = subprocess.Popen(
            command, cwd=root, env=env, stdout=file, stderr=file, text=True, start_new_session=True
        )
    addresses = (f"http://127.0.0.1:{env[f'FASTDRIVE_{name}_PORT']}" for name in ("PREFECT", "MLFLOW"))
    stack = Stack(process, root, said, *addresses)
    try:
        until(lambda: "Ctrl-C stops" in said.read_text() or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield stack
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(200)
