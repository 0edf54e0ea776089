"""What MLflow shows after stages that ended well, failed, were killed, or met no server."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.core import sender, store, tracking
from stages.core.params import Params, read_params
from stages.core.spool import is_live
from stages.core.tracking import stage_run

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


@pytest.fixture(scope="module")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of MLflow, made once: it takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    return store.database(folder)


@pytest.fixture
def checkout(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run stages in, without git, its store empty; records are spooled, `send` sends them."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "SPOOL", Path("runs/spool"))
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "FASTDRIVE_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def send() -> int:
    return tracking.send_all(tracking._Store(), tracking.SPOOL)


def rows(question: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect("mlflow.db") as store:
        return store.execute(question).fetchall()


def statuses() -> dict[str, str]:
    return dict(rows("select name, status from runs"))


def test_a_stage_is_a_child_of_the_pipeline_run_with_all_it_recorded(checkout: Path, params: Params) -> None:
    (checkout / "loss.png").write_bytes(b"picture")
    (checkout / "model").mkdir()
    (checkout / "model" / "manifest.json").write_text("{}")
    with stage_run("train_pruner", params) as run:
        run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.0}, step=2)
        run.table("table1", [{"pruner": "none", "l2_cm": 31.5}, {"pruner": "recon", "l2_cm": 32.0}])
        run.figure(Path("loss.png"))
        run.artifact(Path("model"))
        run.dataset("masks", Path("model"), "training")
    assert send() == 0

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{checkout}/mlflow.db")
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
    assert not list(tracking.SPOOL.glob("*.jsonl"))


def test_a_checkpoint_replaced_after_it_was_recorded_is_sent_as_it_was(checkout: Path, params: Params) -> None:
    Path("model.bin").write_text("first")
    with stage_run("train_pruner", params) as run:
        run.artifact(Path("model.bin"))
    Path("new").write_text("second")
    os.replace("new", "model.bin")
    send()
    (sent,) = checkout.glob("mlartifacts/*/artifacts/model.bin")
    assert sent.read_text() == "first"


def test_the_second_process_has_sent_all_when_the_stage_ends(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTDRIVE_TRACKING")
    with stage_run("make_world", params) as run:
        run.metrics({"images": 60})
    assert statuses()["make_world"] == "FINISHED"
    assert rows("select key, value from metrics") == [("images", 60.0)]


def test_a_raising_stage_is_failed_and_a_stopped_one_killed(checkout: Path, params: Params) -> None:
    for stage, error in (("make_world", ValueError("no room")), ("make_report", KeyboardInterrupt())):
        with pytest.raises(type(error)), stage_run(stage, params):
            raise error
    send()
    assert statuses()["make_world"] == "FAILED"
    assert statuses()["make_report"] == "KILLED"
    assert ("ValueError: no room",) in rows("select value from tags where key = 'error'")


def test_a_run_killed_by_the_system_is_sent_later_as_killed(checkout: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from stages.core.params import read_params\n"
        "from stages.core.tracking import stage_run\n"
        f"with stage_run('make_world', read_params(Path({str(ROOT / 'params.yaml')!r}))) as run:\n"
        "    run.metrics({'images': 7}); print('up', flush=True); time.sleep(60)"
    )
    stage = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    assert stage.stdout
    stage.stdout.readline()
    (spool,) = tracking.SPOOL.glob("*.jsonl")
    assert is_live(spool)
    send()
    assert statuses()["make_world"] == "RUNNING"
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    with open(spool, "a") as file:
        file.write('{"kind": "metr')  # as a kill in mid-line leaves it
    send()
    assert statuses()["make_world"] == "KILLED"
    assert rows("select key, value from metrics") == [("images", 7.0)]


def test_sending_twice_changes_nothing(checkout: Path, params: Params) -> None:
    with stage_run("make_report", params) as run:
        run.table("table1", [{"pruner": "none"}])
        run.metrics({"frames": 3.0, "nan": float("nan")})
        Path("page.html").write_text("page")
        run.artifact(Path("page.html"))
    kept = shutil.copytree(tracking.SPOOL, checkout / "kept")
    send()
    counted = "select (select count(*) from runs), (select count(*) from metrics), (select count(*) from tags)"
    before = rows(counted), [path.read_bytes() for path in sorted(checkout.glob("mlartifacts/**/*.*"))]
    shutil.copytree(kept, tracking.SPOOL, dirs_exist_ok=True)  # as a kill leaves it that falls between send and note
    assert list(tracking.SPOOL.glob("*.jsonl"))
    assert (send(), send()) == (0, 0)
    assert (rows(counted), [path.read_bytes() for path in sorted(checkout.glob("mlartifacts/**/*.*"))]) == before


def test_a_damaged_spool_is_kept_and_holds_up_no_other(checkout: Path, params: Params) -> None:
    with stage_run("make_report", params):
        pass
    (checkout / "runs/spool/0-first.jsonl").write_text("")  # killed before its first line
    assert send() == 1
    assert statuses()["make_report"] == "FINISHED"


def test_runs_of_one_pipeline_share_a_parent_and_another_commit_gets_its_own(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pipeline in ("flow one", "flow one", "flow-two"):
        monkeypatch.setenv("FASTDRIVE_PIPELINE_RUN", pipeline)
        with stage_run("make_world", params):
            pass
    send()
    parents = rows("select value, count(*) from tags where key = 'mlflow.parentRunId' group by value order by 2")
    assert [count for _, count in parents] == [1, 2]


def test_output_hashes_are_added_when_dvc_has_written_its_lock(
    checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "plan_routes@recon")
    lock = {"make_world": {"outs": [{"path": "data/world", "md5": "aa.dir"}]}}
    lock["plan_routes@recon"] = {"deps": [{"path": "data/world", "md5": "old"}, {"path": "stages/x.py", "md5": "bb"}]}
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": lock}))
    os.utime("dvc.lock", (1, 1))
    with stage_run("plan_routes", params, "recon"):
        pass
    send()
    lock["plan_routes@recon"]["outs"] = [{"path": "results/plans/recon", "md5": "cc.dir"}]
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": lock}))
    written_s = time.time() + 1
    os.utime("dvc.lock", (written_s, written_s))
    send()
    assert not rows("select key from tags where key like 'dvc.out%'")  # it may still be at it
    monkeypatch.setattr(time, "time", lambda: written_s + sender.QUIET_S + 1)
    send()
    tags = dict(rows("select key, value from tags where key like 'dvc.%'"))
    assert tags["dvc.stage"] == "plan_routes@recon"
    assert tags["dvc.dep.data/world.md5"] == "aa.dir"
    assert tags["dvc.out.results/plans/recon.md5"] == "cc.dir"
    assert "dvc.dep.stages/x.py.md5" not in tags
    assert not list(tracking.SPOOL.glob("*.jsonl"))


def test_a_run_sent_late_has_its_hashes(checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "plan_routes@recon")
    monkeypatch.setattr(sender, "start", lambda folder: None)  # nobody sends while the stage runs
    with stage_run("plan_routes", params, "recon"):
        pass
    Path("dvc.lock").write_text('{"stages": {"plan_routes@recon": {"outs": [{"path": "out", "md5": "cc.dir"}]}}}')
    monkeypatch.setattr(sender, "lock_newer_than", lambda ended_s: True)
    assert send() == 0
    assert rows("select value from tags where key = 'dvc.out.out.md5'") == [("cc.dir",)]


@pytest.fixture
def hanging_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("port", ["closed_port", "hanging_server"])
def test_a_server_that_is_down_costs_seconds_and_loses_nothing(
    port: str, checkout: Path, params: Params, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("FASTDRIVE_TRACKING")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{request.getfixturevalue(port)}")
    with stage_run("make_world", params) as run:
        run.metrics({"images": 60})
        began = time.monotonic()
    assert time.monotonic() - began < sender.LAST_FLUSH_S + 2
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert send() == 0
    assert statuses()["make_world"] == "FINISHED"
    assert rows("select key, value from metrics") == [("images", 60.0)]
