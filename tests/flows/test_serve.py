"""What `make serve` starts with which settings, a port that is taken, a service that dies, everything below stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from flows.serve import Stack, check_free
from flows.services import QUIET, ServeError, Service, services

ROOT = Path(__file__).parents[2]


def service(tmp_path: Path, program: str, name: str = "mlflow") -> Service:
    return Service(name, (sys.executable, "-c", program), os.environ, 1, "http://127.0.0.1:1/health")


def test_sqlite_files_and_loopback_by_default(tmp_path: Path) -> None:
    mlflow, prefect, worker = services(tmp_path, {"PATH": "/usr/bin"})
    assert mlflow.env["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/.local/mlflow.db"
    assert prefect.env["PREFECT_HOME"] == f"{tmp_path}/.local/prefect"
    assert worker.env["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    assert all(one.env.items() >= QUIET.items() for one in (mlflow, prefect, worker))
    assert [one.command[one.command.index("--host") + 1] for one in (mlflow, prefect)] == ["127.0.0.1"] * 2
    assert worker.env["PREFECT_WORKER_WEBSERVER_HOST"] == "127.0.0.1"


def test_one_setting_moves_both_to_postgresql_and_no_password_is_on_a_command_line(tmp_path: Path) -> None:
    url = "postgresql://ann:s3cr%40t@db:5433/fast?sslmode=require"
    mlflow, prefect, worker = services(tmp_path, {"FASTDRIVE_DATABASE_URL": url})
    assert mlflow.env["MLFLOW_BACKEND_STORE_URI"] == url.replace("postgresql", "postgresql+psycopg2")
    assert mlflow.env["PGOPTIONS"] == "-c search_path=mlflow"
    wanted = "postgresql+asyncpg://ann:s3cr%40t@db:5433/fast?ssl=require"
    assert prefect.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == wanted
    assert not [word for one in (mlflow, prefect, worker) for word in one.command if "s3cr" in word]
    assert not [value for value in worker.env.values() if "s3cr" in value]  # nor do flows and stages get it


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"FASTDRIVE_MLFLOW_PORT": "http"}, "FASTDRIVE_MLFLOW_PORT=5000"),
        ({"FASTDRIVE_PREFECT_PORT": "5000"}, "wanted three ports"),
        ({"FASTDRIVE_DATABASE_URL": "mysql://ann:pass@db/fast"}, "one that begins with mysql"),
        ({"FASTDRIVE_DATABASE_URL": "postgresql://ann:pass@db"}, "user:password@host:port/database"),
    ],
)
def test_a_setting_of_no_use_is_refused_without_its_password(tmp_path: Path, env: dict[str, str], said: str) -> None:
    with pytest.raises(ServeError, match=said) as raised:
        services(tmp_path, env)
    assert raised.value.code == 2
    assert "ann:pass" not in str(raised.value)


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=rf"wanted port {port} for mlflow; .* next: .*FASTDRIVE_MLFLOW_PORT="):
            check_free(replace(service(tmp_path, ""), port=port))


def test_a_service_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "logs", ready_s=30, say=lambda _: None)
    stack.start(service(tmp_path, "import sys; sys.exit('no space left')"))
    with pytest.raises(ServeError, match=r"(?s)no space left.*it ended with 1; next: mend what .*mlflow\.log says"):
        stack.wait("mlflow")
    stack.keepers.close()


def test_a_service_that_stays_silent_is_given_up(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "logs", ready_s=0.5, say=lambda _: None)
    stack.start(service(tmp_path, "import time; time.sleep(60)"))
    with pytest.raises(ServeError, match=r"silent for 0 s|silent for 1 s"):
        stack.wait("mlflow")
    stack.processes["mlflow"].kill()
    stack.processes["mlflow"].wait()
    stack.keepers.close()


DEEP = """
import subprocess, sys, time
from pathlib import Path
from flows.whole import adopt_orphans, stop_all
adopt_orphans()
deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
deaf += "print(os.getpid(), flush=True); time.sleep(60)"
orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)"
subprocess.run([sys.executable, "-c", orphan])
time.sleep(1)
stop_all(0.5)
print("none left", flush=True)
time.sleep(60)
"""


def test_an_orphan_in_a_session_of_its_own_that_ignores_term_is_stopped_too() -> None:
    with subprocess.Popen([sys.executable, "-c", DEEP], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "none left\n"
        assert not psutil.pid_exists(pid)
        process.kill()


def test_what_kill_9_leaves_is_stopped_by_the_keeper() -> None:
    """Prefect kills a cancelled run after 30 s; the stage it had started must not go on, nor hold a GPU."""
    program = "import os, sys; from pathlib import Path; from flows.process import run; "
    program += "run([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'], "
    program += "Path.cwd(), os.environ, lambda line: print(line, flush=True))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        end_s = time.monotonic() + 20
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end_s
            time.sleep(0.1)
