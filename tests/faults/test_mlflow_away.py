"""MLflow's server failing, or gone half-way: the stage ends well and in time, no run is lost or sent twice."""

import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stages.core import sender, store, tracking
from stages.core.params import Params, read_params
from stages.core.tracking import stage_run

ROOT = Path(__file__).parents[2]
TABLES = ("runs", "metrics", "params", "tags", "inputs", "datasets")
pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


@pytest.fixture(scope="module")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store.database(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def checkout(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(empty, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "SPOOL", Path("runs/spool"))
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "FASTDRIVE_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def record(params: Params) -> None:
    Path("page.html").write_text("page")
    with stage_run("make_report", params) as run:
        run.metrics({"frames": 3.0}, step=1)
        run.tags({"note": "a"})
        run.table("table1", [{"pruner": "none"}])
        run.artifact(Path("page.html"))
        run.dataset("page", Path("page.html"), "evaluation")


def counts() -> dict[str, int]:
    with closing(sqlite3.connect("mlflow.db")) as database:
        return {name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in TABLES}


class Cut:
    """A client whose connection is lost at its `at`th call: before the server hears it, or after it has done it."""

    def __init__(self, client: Any, at: int, heard: bool) -> None:
        self._client, self.left, self._heard = client, at, heard

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self._heard:
                method(*args, **kwargs)
            if self.left <= 0:  # and it stays away
                raise ConnectionError("no server")
            return method(*args, **kwargs)

        return call


def send(at: int = 10**9, heard: bool = False) -> tuple[int, int]:
    """How many runs are left, and how many calls the sending took."""
    sent = tracking._Store()
    sent.client = cut = Cut(sent.client, at, heard)
    return tracking.send_all(sent, tracking.SPOOL), at - cut.left


@pytest.mark.parametrize("heard", [False, True], ids=["before it is heard", "after it is done"])
def test_a_server_that_goes_at_any_call_loses_nothing_and_gets_nothing_twice(
    heard: bool, checkout: Path, empty: Path, params: Params
) -> None:
    record(params)
    kept = shutil.copytree("runs/spool", "kept")
    left, calls = send()
    whole = counts()
    assert (left, calls > 10) == (0, True)
    assert whole["runs"] == 2
    for at in range(1, calls + 1):
        shutil.copy(empty, "mlflow.db")
        shutil.copytree(kept, "runs/spool", dirs_exist_ok=True)
        assert send(at, heard)[0] == 1
        assert len(list(Path("runs/spool").glob("*.jsonl"))) == 1
        assert send()[0] == 0
        assert counts() == whole, f"cut at call {at} of {calls}"


def serve(answer: bytes, times: int) -> Iterator[int]:
    """A port that answers `times` requests so, and closes every later connection at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            for turn in range(10**6):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if turn < times:
                        connection.recv(65536)
                        connection.sendall(answer)

        threading.Thread(target=work, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


SERVERS = {
    "fails": (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 10**6),
    "refuses the host": (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 10**6),
    "talks HTML": (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>", 10**6),
    "goes in its first answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{", 1),
}


@pytest.fixture(params=SERVERS)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    yield from serve(*SERVERS[request.param])


@pytest.mark.slow
def test_a_stage_ends_well_and_in_time_whatever_the_server_says(
    port: int, checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTDRIVE_TRACKING")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    began_s = time.monotonic()
    record(params)
    assert time.monotonic() - began_s < sender.LAST_FLUSH_S + 5
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert send()[0] == 0
    assert counts()["runs"] == 2
