"""MLflow, Prefect, a worker and the deployments on this machine: started, waited for, kept up, stopped together.

python -m flows.serve        # or `make serve`; Ctrl-C stops all of it

FASTDRIVE_{MLFLOW,PREFECT,WORKER}_PORT move the ports, FASTDRIVE_DATABASE_URL=postgresql://... replaces SQLite,
PREFECT_API_AUTH_STRING=user:password and MLFLOW_TRACKING_PASSWORD let the servers ask for them (flows/logins.py).
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from flows.logins import check_login, shell, with_logins
from flows.process import STOP_S, kept
from flows.services import HOST, POOL, ServeError, Service, port_setting, services
from flows.whole import adopt_orphans, reap, stop_all

DEPLOYMENTS = [sys.executable, "-m", "flows.deployments"]
READY_S = 300  # MLflow's server takes 13 s on two idle cores, the first start with an empty database longer
SERVER_S = 20
LIVED_S = 60  # what ended sooner after its start would only end again


class Stack:
    """The running processes of the stack; `say` gets a line for each thing that happens."""

    def __init__(self, logs: Path, ready_s: float = READY_S, say: Callable[[str], None] = print) -> None:
        self.logs, self.ready_s, self.say = logs, ready_s, say
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.services: dict[str, Service] = {}
        self.started_s: dict[str, float] = {}
        self.keepers = ExitStack()
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, service: Service) -> None:
        """In a process group of its own, its lines in a log file."""
        with open(self.log(service.name), "ab") as log:
            process = _popen(service.command, service.env, log)
        self.keepers.enter_context(kept(process.pid))
        self.processes[service.name], self.services[service.name] = process, service
        self.started_s[service.name] = time.monotonic()

    def wait(self, *names: str) -> None:
        """Until all of `names` are well. Raises ServeError with the end of the log when one is not in time, or died."""
        end_s = time.monotonic() + self.ready_s
        for name in names:
            while not _answers(self.services[name].health):
                code = self.processes[name].poll()
                if code is not None:
                    raise self._broken(name, f"it ended with {code}")
                if time.monotonic() > end_s:
                    raise self._broken(name, f"{self.services[name].health} was silent for {self.ready_s:.0f} s")
                time.sleep(0.3)
            self.say(f"{name:8} {self.services[name].address} is well")

    def do(self, name: str, command: Sequence[str], service: Service) -> None:
        """A command that ends, with the environment of `service`. Raises ServeError when it does not end with 0."""
        with open(self.log(name), "ab") as log:
            process = _popen(command, service.env, log)
            with kept(process.pid):
                code = process.wait()
        if code:
            raise self._broken(name, f"it ended with {code}")

    def watch(self) -> NoReturn:
        """Start again what dies after a while; raise ServeError for what dies at once."""
        while True:
            for name, process in list(self.processes.items()):
                if (code := process.poll()) is not None:
                    if time.monotonic() - self.started_s[name] < LIVED_S:
                        raise self._broken(name, f"it ended with {code}")
                    self.say(f"{name} ended with {code}; it is started again")
                    if name == "worker":  # told before it starts: it would wait for runs that nobody works on
                        self.do("leftovers", [*DEPLOYMENTS, "leftovers"], self.services[name])
                    self.start(self.services[name])
                    self.wait(name)
            reap({process.pid for process in self.processes.values()})
            time.sleep(0.5)

    def stop(self) -> None:
        """Flow runs and worker first, so that a training saves its state and its end is told to a server that lives."""
        stop_all(STOP_S, [process.pid for name, process in self.processes.items() if name != "worker"])
        stop_all(SERVER_S)
        self.keepers.close()

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _broken(self, name: str, came: str) -> ServeError:
        with open(self.log(name), encoding="utf-8", errors="replace") as file:
            tail = "".join(deque(file, 20))
        return ServeError(f"{tail}\nwanted {name} to be well; got: {came}; next: mend what {self.log(name)} says")


def _popen(command: Sequence[str], env: Any, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def _answers(url: str) -> bool:
    """Straight to loopback: a proxy of the environment would be asked otherwise."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), opener.open(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def check_free(service: Service) -> None:
    """Raises ServeError when something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, service.port))
        except OSError as error:
            raise ServeError(
                f"wanted port {service.port} for {service.name}; got {error.strerror}; next: stop what listens there "
                f"(`ss -ltnp 'sport = :{service.port}'`), or {port_setting(service.name)}=<another> make serve"
            ) from error


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One stack for each .local: two servers in one SQLite file undo each other's work."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "serve.lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServeError(f"wanted {home} for itself; got another `make serve` in it; next: stop that") from error
        yield


def serve(root: Path) -> NoReturn:
    """Start all, wait, say where, keep it up until a signal. Raises ServeError; however it ends, nothing is left."""
    home = root / ".local"
    all_of = with_logins(home, services(root, os.environ), os.environ)
    mlflow, prefect, worker = all_of
    with alone(home):
        for service in all_of:
            check_free(service)
        if url := os.environ.get("FASTDRIVE_DATABASE_URL"):
            from flows.schemas import make_schemas

            make_schemas(url)
        adopt_orphans()
        stack = Stack(home / "logs")
        try:
            stack.start(mlflow)
            stack.start(prefect)
            stack.wait(prefect.name)
            stack.do("deploy", DEPLOYMENTS, worker)
            stack.start(worker)
            stack.wait(mlflow.name, worker.name)
            check_login(mlflow, worker)
            print(told(mlflow, prefect, stack.logs, shell(worker)), flush=True)
            stack.watch()
        finally:
            stack.stop()


def told(mlflow: Service, prefect: Service, logs: Path, more: str = "") -> str:
    """What a person wants to know once all is up."""
    return f"""
MLflow    {mlflow.address}
Prefect   {prefect.address}   work pool {POOL}; deployments reproduce, retrain, promote, rollback
logs      {logs}
In another shell{more}:
  export MLFLOW_TRACKING_URI={mlflow.address} PREFECT_API_URL={prefect.address}/api
  prefect deployment run reproduce/reproduce
Ctrl-C stops all of it."""


def main() -> None:
    """The command line: 0 when a person stopped it, 2 and 4 as stages do."""

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        serve(Path.cwd())
    except ServeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        print("all stopped")


if __name__ == "__main__":
    main()
