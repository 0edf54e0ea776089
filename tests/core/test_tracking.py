"""MLflow after stages that ended well, failed, were killed, or met a store that is away."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from stages.core import tracking
from stages.core.errors import MachineError
from stages.core.params import Params, read_params
from stages.core.tracking import Run, send_unsent, stage_run, unsent

ROOT = Path(__file__).parents[2]
TABLES = ("runs", "metrics", "params", "tags", "inputs", "datasets")
pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


@pytest.fixture(scope="module")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.fixture
def checkout(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run stages in, without git, its store empty; stages send what they record."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "UNSENT", Path("runs/unsent"))
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "FASTDRIVE_PIPELINE_RUN", "FASTDRIVE_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def rows(query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect("mlflow.db")) as database:
        return database.execute(query).fetchall()


def statuses() -> dict[str, str]:
    return dict(rows("select name, status from runs"))


def record(params: Params) -> None:
    Path("page.html").write_text("page")
    with stage_run("make_report", params) as run:
        run.metrics({"frames": 3.0, "nan": float("nan")}, step=1)
        run.tags({"note": "a"})
        run.table("table1", [{"pruner": "none"}])
        run.artifact(Path("page.html"))
        run.dataset("page", Path("page.html"), "evaluation")


def test_a_stage_is_a_child_of_the_pipeline_run_with_all_it_recorded(checkout: Path, params: Params) -> None:
    (checkout / "loss.png").write_bytes(b"picture")
    (checkout / "model").mkdir()
    (checkout / "model" / "manifest.json").write_text("{}")
    with stage_run("train_pruner", params) as run:
        run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.0}, step=2)
        run.table("table1", [{"pruner": "none", "l2_cm": 31.5}, {"pruner": "recon", "l2_cm": 32.0}])
        run.artifact(Path("loss.png"), "figures")
        run.artifact(Path("model"))
        run.dataset("masks", Path("model"), "training")
    client = tracking.client(tracking.store_uri())
    (experiment,) = (found for found in client.search_experiments() if found.name == params.tracking.experiment)
    child, parent = sorted(client.search_runs([experiment.experiment_id]), key=lambda found: found.info.run_name)[::-1]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert child.data.params["train_pruner.steps"] == str(params.train_pruner.steps)
    assert child.data.tags["seed"] == str(params.train_pruner.seed)
    assert [(m.step, m.value) for m in client.get_metric_history(child.info.run_id, "loss")] == [(1, 2.0), (2, 1.0)]
    assert client.load_table(experiment.experiment_id, "table1.json")["l2_cm"].tolist() == [31.5, 32.0]
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"figures", "model", "table1.json"}
    (data,) = child.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("masks", "99914b932bd37a50b983c5e7c90ae93b")  # md5 of {}
    assert not any((checkout / "runs/unsent").iterdir())


def test_in_training_metrics_are_sent_every_few_seconds(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SEND_EVERY_S", 0.0)
    with stage_run("train_pruner", params) as run:
        for step in range(3):
            run.metrics({"loss": 1.0}, step=step)
            assert rows("select max(step) from metrics") == [(step,)]
        assert statuses()["train_pruner"] == "RUNNING"
    assert rows("select count(*) from metrics") == [(3,)]


def test_a_workspace_of_dvc_exp_run_records_in_the_store_of_its_checkout(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = checkout / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    with stage_run("make_world", params):
        pass
    monkeypatch.chdir(checkout)
    assert statuses()["make_world"] == "FINISHED"
    assert not (workspace / "mlflow.db").exists()


def test_a_copied_checkout_keeps_its_files_beside_its_own_store(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record(params)
    copy = shutil.copytree(checkout, tmp_path_factory.mktemp("elsewhere") / "copy")
    monkeypatch.chdir(copy)
    record(params)
    assert len(list(checkout.glob("mlartifacts/*/artifacts/page.html"))) == 1
    assert len(list(copy.glob("mlartifacts/*/artifacts/page.html"))) == 2
    assert {uri.startswith(copy.as_uri()) for (uri,) in rows("select artifact_uri from runs")} == {True}


def test_a_checkpoint_replaced_after_it_was_recorded_is_sent_as_it_was(checkout: Path, params: Params) -> None:
    Path("model.bin").write_text("first")
    with stage_run("train_pruner", params) as run:
        run.artifact(Path("model.bin"))
        Path("new").write_text("second")
        os.replace("new", "model.bin")
    (sent,) = checkout.glob("mlartifacts/*/artifacts/model.bin")
    assert sent.read_text() == "first"


def test_a_raising_stage_is_failed_and_a_stopped_one_killed(checkout: Path, params: Params) -> None:
    for stage, error in (("make_world", ValueError("no room")), ("make_report", KeyboardInterrupt())):
        with pytest.raises(type(error)), stage_run(stage, params):
            raise error
    assert statuses()["make_world"] == "FAILED"
    assert statuses()["make_report"] == "KILLED"
    assert ("ValueError: no room",) in rows("select value from tags where key = 'error'")


@pytest.mark.process
def test_a_run_killed_by_the_system_is_sent_by_the_next_stage_as_killed(checkout: Path, params: Params) -> None:
    program = (
        "import time; from pathlib import Path; from stages.core.params import read_params\n"
        "from stages.core.tracking import stage_run\n"
        f"with stage_run('make_world', read_params(Path({str(ROOT / 'params.yaml')!r}))) as run:\n"
        "    run.metrics({'images': 7}); print('up', flush=True); time.sleep(60)"
    )
    stage = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    assert stage.stdout
    stage.stdout.readline()
    (file,) = Path("runs/unsent").glob("*.jsonl")
    assert unsent(checkout) == []  # it lives
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    with open(file, "a") as cut_short:
        cut_short.write('{"kind": "metr')
    with stage_run("make_report", params):
        pass
    assert statuses() | {"make_world": "KILLED", "make_report": "FINISHED"} == statuses()
    assert rows("select key, value from metrics") == [("images", 7.0)]


def test_no_byte_that_a_stage_leaves_holds_a_secret(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "swordfish0")
    monkeypatch.setenv("FASTDRIVE_TRACKING", "later")
    with suppress(RuntimeError), stage_run("make_world", params) as run:
        run.tags({"note": "swordfish0"})
        run.table("t", [{"who": "swordfish0"}])
        raise RuntimeError("no answer from http://ann:swordfish1@host with swordfish0")
    (file,) = Path("runs/unsent").iterdir()
    assert "no answer from http://***@host with ***" in file.read_text()
    assert b"swordfish" not in file.read_bytes()
    assert send_unsent() == 0
    assert not [path for path in checkout.rglob("*") if path.is_file() and b"swordfish" in path.read_bytes()]


def test_a_damaged_file_is_kept_and_blocks_no_other(checkout: Path, params: Params) -> None:
    Path("runs/unsent").mkdir(parents=True)
    Path("runs/unsent/0-first.jsonl").write_text('{"kind": "start"}\n')
    with stage_run("make_report", params):
        pass
    assert send_unsent() == 1
    assert statuses()["make_report"] == "FINISHED"


def test_runs_of_one_pipeline_share_a_parent(checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    for pipeline in ("flow one", "flow one", "flow-two"):
        monkeypatch.setenv("FASTDRIVE_PIPELINE_RUN", pipeline)
        with stage_run("make_world", params):
            pass
    parents = rows("select value, count(*) from tags where key = 'mlflow.parentRunId' group by value order by 2")
    assert [count for _, count in parents] == [1, 2]


class Cut:
    """A client whose connection is lost at its `at`th call: before the server hears it, or after it has done it."""

    def __init__(self, client: Any, at: int, heard: bool) -> None:
        self._client, self.calls, self._at, self._heard = client, 0, at, heard

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._at and self._heard:
                method(*args, **kwargs)
            if self.calls >= self._at:  # and it stays away
                raise ConnectionError("no server")
            return method(*args, **kwargs)

        return call


def test_a_store_that_goes_away_at_any_call_loses_nothing_and_gets_nothing_twice(
    checkout: Path, empty_store: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FASTDRIVE_TRACKING", "later")
        record(params)
    kept, stock, cuts = shutil.copytree("runs/unsent", "kept"), tracking.client, list[Cut]()

    def send(at: int, heard: bool = False) -> int:
        cuts.append(Cut(stock(tracking.store_uri()), at, heard))
        monkeypatch.setattr(tracking, "client", lambda uri: cuts[-1])
        return send_unsent()

    def counts() -> list[tuple[Any, ...]]:
        return [rows(f"select count(*) from {table}")[0] for table in TABLES]

    assert send(at=1000) == 0
    whole, calls = counts(), cuts[-1].calls
    assert calls > 10
    for at in range(1, calls + 1, 3):
        shutil.copy(empty_store, "mlflow.db")
        shutil.copytree(kept, "runs/unsent", dirs_exist_ok=True)
        assert send(at, heard=at % 2 == 0) == 1
        assert send(at=1000) == 0
        assert counts() == whole, f"cut at call {at} of {calls}"


def serve(answer: bytes | None) -> Iterator[int]:
    """A port that gives every request this answer, or none at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    if answer is None:
                        time.sleep(60)
                    connection.sendall(answer or b"")

        threading.Thread(target=work, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=["closed", "hangs", "talks HTML"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "closed":
        with socket.create_server(("127.0.0.1", 0)) as server:
            number = server.getsockname()[1]
        yield number
    elif request.param == "hangs":
        yield from serve(None)
    else:
        yield from serve(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>")


def test_a_server_that_is_down_costs_seconds_and_one_warning_and_loses_nothing(
    port: int, checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # by default PATIENCE_S
    monkeypatch.setattr(tracking, "SEND_EVERY_S", 0.0)
    began_s = time.monotonic()
    record(params)
    assert time.monotonic() - began_s < 6
    assert len([message for message in caplog.messages if message.startswith("tracking:")]) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert send_unsent() == 0
    assert statuses()["make_report"] == "FINISHED"
    assert rows("select value from metrics where key = 'frames'") == [(3.0,)] * 2  # the report's, and the pipeline's


class Login(BaseHTTPRequestHandler):
    """Answers as MLflow's basic-auth app does."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_a_refused_login_names_the_variables_to_set_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "swordfish-wrong")
    with HTTPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(MachineError, match="MLFLOW_TRACKING_PASSWORD") as raised, tracking.answering(uri, "runs"):
            tracking.client(uri).search_experiments(max_results=1)
        server.shutdown()
    assert "swordfish" not in str(raised.value)


def test_a_short_stage_of_dvc_leaves_its_record_to_the_last_one(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "plan_routes@none")
    with stage_run("plan_routes", params, "none") as run:
        run.metrics(dict.fromkeys(map(str, range(1500)), 1.0))  # more than MLflow takes at once
    assert (len(unsent(checkout)), statuses()) == (1, {})
    monkeypatch.setenv("DVC_STAGE", "score_plans")
    with pytest.raises(ValueError, match="no room"), stage_run("score_plans", params):
        raise ValueError("no room")  # a failure is looked at now
    assert (len(unsent(checkout)), statuses()["score_plans"]) == (0, "FAILED")
    assert rows("select count(*) from metrics") == [(1500,)]
    monkeypatch.setenv("DVC_STAGE", "make_report")
    with stage_run("make_report", params):
        pass
    assert statuses()["make_report"] == "FINISHED"


def test_a_name_that_mlflow_refuses_is_refused_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "1.jsonl", {})
    with pytest.raises(ValueError, match="no name MLflow takes"):
        run.metrics({"loss (%)": 1.0})
    run.end("FINISHED")
