"""Two machines with one MLflow server: registered, judged and promoted over HTTP, in two checkouts at once."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from registered import ROOT, make_checkout, register_version

import fastdrive
from stages.core.params import Params
from stages.registry.versions import Registry

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own

PROMOTE = """
import sys, time
from stages.registry import moves
from stages.registry.versions import Registry
from stages.core.errors import GateError
registry = Registry("reconpruner")
registry.aliases()
print("ready", flush=True)
sys.stdin.readline()
try:
    moves.promote(registry, sys.argv[1], "1", "ann", "mine")
    print("won")
except GateError as error:
    print("told", error)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server on loopback that keeps the files itself, as in compose."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = f"sqlite:///{tmp_path}/server.db"
    words = ["--backend-store-uri", store, "--artifacts-destination", str(tmp_path / "kept"), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *words]
    env = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (
        open(tmp_path / "server.log", "w") as said,
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=said, stderr=said, start_new_session=True) as process,
    ):
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)


def test_two_machines_promote_at_once_and_one_wins(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    machines = [tmp_path / "a", tmp_path / "b"]
    for machine in machines:
        machine.mkdir()
    monkeypatch.chdir(machines[0])
    params: Params = make_checkout(machines[0])
    for seed in range(3):
        register_version(params, seed)
    registry = Registry("reconpruner")
    registry.point("champion", "1")
    assert fastdrive.load("models:/reconpruner@champion")._trained[1] == "e" * 16
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, number],
            cwd=machine,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for machine, number in zip(machines, ("2", "3"), strict=True)
    ]
    for process in racing:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    said = [process.communicate("go\n", timeout=300)[0] for process in racing]
    assert sorted(words.split()[0] for words in said) == ["told", "won"]
    won = "2" if said[0].startswith("won") else "3"
    assert registry.aliases() == {"champion": won, "previous": "1"} | ({} if won == "3" else {"candidate": "3"})
