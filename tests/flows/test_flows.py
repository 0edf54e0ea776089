"""The flows on one server and one store: reproduce, promote, rollback, and a schedule that fires.

Reproduce: the lock of plain `dvc repro`, a task a stage, tables and progress as artifacts. Promote: the form filled,
declined, refused, undone.
"""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from registered import make_checkout, register_version

from flows.deployments import automate
from stages.core.params import read_params
from stages.registry.versions import Registry

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # MLflow's own

# One process for all flows. Every step of promotion prints the result and the aliases.
STEPS = """
import json, os, sys, threading, time
from uuid import UUID
import flows.promote
from flows.promote import promote
from flows.reproduce import reproduce
from flows.rollback import rollback
import flows.retrain
print("HEAVY", {"torch", "mlflow"} & set(sys.modules), flush=True)
input()  # the server is up, and the versions are registered
from stages.core.errors import InputError
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_runs import resume_flow_run
from stages.registry.versions import Registry

stock, registered = flows.promote.pause_flow_run, os.getcwd()
flows.promote.pause_flow_run = lambda **words: stock(**words | {"poll_interval": 0.3})
for folder in sys.argv[1:]:
    os.chdir(folder)
    print("RUN", folder, flush=True)
    print("STATE", reproduce(return_state=True).type.value, flush=True)
print("RUN promotion", flush=True)
os.chdir(registered)

def fill(answer):
    with get_client(sync_client=True) as client:
        while True:
            time.sleep(0.2)
            for run in client._client.post("/flow_runs/filter", json={}).json():
                try:
                    if run["state_type"] == "PAUSED":
                        keys = run["state"]["state_details"]["run_input_keyset"]
                        print("FORM", client.read_flow_run_input(UUID(run["id"]), keys["description"]), flush=True)
                        return resume_flow_run(UUID(run["id"]), run_input=answer)
                except PrefectHTTPStatusError:  # paused, and the form not yet there
                    pass

def step(name, flow, *args, form=None, **kwargs):
    if form:
        threading.Thread(target=fill, args=[form], daemon=True).start()
    try:
        result = flow(*args, **kwargs)
    except InputError as error:
        result = f"{type(error).__name__} {error.exit_code}: {error}"
    print("STEP", json.dumps([name, result, Registry("reconpruner").aliases()]), flush=True)

step("first", promote, "1", approve="the first")
step("form", promote, "2", timeout_s=120, form={"approve": True, "reason": "better", "by": "ann"})
step("declined", promote, "3", timeout_s=120, form={"approve": False, "reason": "not yet", "by": "bob"})
step("auto", promote, "3", auto=True)
step("worse", promote, "4", approve="let me")
step("back", rollback, "brakes late", by="eve")
step("back again", rollback, "brakes late", by="eve")
step("hostile", promote, "--version=3")
"""

# Prefect's server on tables that are made at once. Its migrations take ten seconds; test_serve.py runs them.
SERVER = """
import asyncio, sys
import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.server.database.orm_models import Base

def make(connection):
    known = set()
    for table in Base.metadata.tables.values():
        for index in list(table.indexes):
            if index.name in known:  # SQLite takes a name once
                table.indexes.remove(index)
            known.add(index.name)
    Base.metadata.create_all(connection)

async def main():
    engine = await provide_database_interface().engine()
    async with engine.begin() as connection:
        await connection.run_sync(make)

asyncio.run(main())
uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning")
"""


@dataclass(frozen=True)
class Server:
    """A Prefect server whose scheduler looks every second."""

    client: httpx.Client
    home: Path
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    env |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1"}
    env |= {"PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1"}
    env |= {"PREFECT_API_DATABASE_MIGRATE_ON_START": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}
    idle = ("TRIGGERS", "EVENT_PERSISTER", "LATE_RUNS", "FOREMAN")  # what no test here is about
    env |= {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in idle}
    command = [sys.executable, "-c", SERVER, str(port)]
    with open(home / "log", "w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/", timeout=60, trust_env=False) as client:
            yield Server(client, home, process)
        process.terminate()


def wait_for(server: Server) -> None:
    give_up_s = time.monotonic() + 180
    while True:
        try:
            server.client.get("health").raise_for_status()
            return
        except httpx.HTTPError:
            assert server.process.poll() is None, (server.home / "log").read_text()
            assert time.monotonic() < give_up_s, (server.home / "log").read_text()
            time.sleep(0.3)


def call(server: Server, method: str, place: str, body: dict[str, Any]) -> Any:
    """Return the answer to a request. A server whose SQLite file is locked answers 503, and clients try again."""
    for _ in range(60):
        answer = server.client.request(method, place, json=body)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(0.5)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


@dataclass(frozen=True)
class Flown:
    """Checkouts after the flow runs, the output of each run, the steps of promotion, and Prefect's tables."""

    good: Path
    faulty: Path
    output: list[str]
    steps: dict[str, tuple[str, dict[str, str]]]
    database: Path

    def rows(self, question: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(self.database) as database:
            return database.execute(question).fetchall()


@pytest.fixture(scope="module")
def flown(
    server: Server, template: Path, reproduced: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flown]:
    """A fresh run, one with nothing to do, a fault in the last stage; then four versions, the last much worse."""
    home, flown = (tmp_path_factory.mktemp(name) for name in ("registered", "flown"))
    good, faulty = shutil.copytree(template, flown / "good"), shutil.copytree(reproduced, flown / "faulty")
    (faulty / "out/plan_recon.txt").unlink()
    graph = faulty / "dvc.yaml"
    graph.write_text(graph.read_text().replace("stage.py report", "./stage.py report"))
    (good / "reports").mkdir()
    (good / "reports/index.html").write_text("a page")
    (faulty / "fault").write_text("sys.exit('expected masks, got none')")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    env |= {"PREFECT_API_URL": str(server.client.base_url).rstrip("/"), "PREFECT_HOME": str(flown)}
    env |= {"PYTHONPATH": str(ROOT), "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        shutil.copy(empty_store, home / "mlflow.db")
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = [sys.executable, "-c", STEPS, good, good, faulty]
        with subprocess.Popen(command, env=env, text=True, **pipes) as process:  # imports, while we register
            make_checkout(home)
            params = read_params()
            for seed, l2_cm in enumerate((40.0, 40.1, 40.2, 70.0)):
                register_version(params, seed, l2_cm)
            wait_for(server)
            output, _ = process.communicate("go\n", timeout=400)
        assert process.returncode == 0, output[-4000:]
        steps = [json.loads(line[5:]) for line in output.splitlines() if line.startswith("STEP ")]
        named = {name: (result, aliases) for name, result, aliases in steps}
        yield Flown(good, faulty, output.split("RUN "), named, server.home / "prefect.db")


def test_flows_never_import_torch_and_mlflow_only_when_they_ask_it(flown: Flown) -> None:
    assert "HEAVY set()" in flown.output[0]


def test_the_flow_leaves_the_lock_of_plain_dvc_repro(flown: Flown, reproduced: Path) -> None:
    assert "STATE COMPLETED" in flown.output[1]
    assert (flown.good / "dvc.lock").read_bytes() == (reproduced / "dvc.lock").read_bytes()


def test_each_stage_is_a_task_and_its_lines_are_in_the_log(flown: Flown) -> None:
    names = [name for (name,) in flown.rows("select name from task_run order by start_time")]
    assert names[:4] == ["world", "plan@none", "plan@recon", "report"]
    assert flown.rows("select count(*) from log where message like '%progress frames 10/20%'") != [(0,)]


def test_tables_and_progress_are_artifacts(flown: Flown) -> None:
    kept = dict(flown.rows("select key, data from artifact where type = 'table'"))
    assert json.loads(json.loads(kept["metrics-summary-json"])) == [{"metric": "l2_cm.none", "value": 31.5}]
    bars = dict(flown.rows("select key, data from artifact where type = 'progress'"))
    assert float(bars["plan-recon-frames"]) == 50.0


def test_the_report_is_a_link_where_there_is_one(flown: Flown) -> None:
    links = flown.rows("select key, data from artifact where type = 'markdown' and key = 'report-file'")
    assert [(flown.good / "reports/index.html").as_uri() in data for _, data in links] == [True, True]


def test_a_second_flow_runs_no_stage(flown: Flown) -> None:
    assert "STATE COMPLETED" in flown.output[2]
    assert "stale: nothing" in flown.output[2]
    names = [name.partition("-")[0] for (name,) in flown.rows("select name from task_run order by start_time")]
    assert names == ["world", "plan@none", "plan@recon", "report", "plan@recon", "report", *["judge"] * 6]


def test_a_fault_of_a_stage_fails_the_flow_and_names_it(flown: Flown) -> None:
    assert "STATE FAILED" in flown.output[3]
    assert "expected masks, got none" in flown.output[3]
    assert (flown.faulty / "out/plan_recon.txt").is_file()


@pytest.mark.parametrize(
    ("step", "result", "champion", "previous"),
    [
        ("first", "version 1 of reconpruner is champion$", "1", None),
        ("form", "version 2 of reconpruner is champion$", "2", "1"),
        ("declined", "version 3 of reconpruner was declined by bob: not yet$", "2", "1"),
        ("auto", "ParamsError 2:.*registry.auto: true", "2", "1"),
        ("worse", "GateError 5:.*25 % pruned: l2_cm: 71", "2", "1"),
        ("back", "rolled back:", "1", None),
        ("back again", "GateError 5:.*no previous", "1", None),
        ("hostile", "DataError 3:", "1", None),
    ],
)
def test_each_step_says_what_it_did_or_why_not(
    flown: Flown, step: str, result: str, champion: str, previous: str | None
) -> None:
    assert re.match(result, flown.steps[step][0])
    aliases = {"champion": champion, "candidate": "4"}
    assert flown.steps[step][1] == aliases | ({"previous": previous} if previous else {})


def test_the_form_shows_the_verdict_and_its_answer_is_kept_on_the_version(flown: Flown) -> None:
    form = next(line for line in flown.output[4].splitlines() if line.startswith("FORM "))
    assert "Make version 2 of reconpruner champion, in the place of version 1?" in form
    assert "- 50 % pruned: l2_cm: **41.1** (at most 65)" in form
    tags = Registry("reconpruner").version("2").tags
    assert (tags["promotion.by"], tags["promotion.reason"]) == ("ann", "better")
    assert len(tags["promotion.flow_run"]) == 36


def test_the_versions_keep_who_declined_and_who_rolled_back(flown: Flown) -> None:
    assert Registry("reconpruner").version("3").tags["declined.reason"] == "not yet"
    assert Registry("reconpruner").version("2").tags["rollback.by"] == "eve"


def test_the_gate_shows_why_it_refuses_a_worse_version(flown: Flown) -> None:
    assert "NO" in Registry("reconpruner").version("4").description
    ((shown,),) = flown.rows("select data from artifact where description like 'reconpruner version 4: refused%'")
    row: dict[str, Any] = {"rule": "25 % pruned: l2_cm", "expected": "at most 60", "got": "71", "passed": "NO"}
    assert row in json.loads(json.loads(shown))


def test_automations_are_made_once_and_those_that_send_wait_for_a_block(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(server)
    monkeypatch.setattr("flows.deployments.deployments", lambda client: [SimpleNamespace(name="promote", id=uuid4())])
    with SyncPrefectClient(str(server.client.base_url)) as client:
        for _ in range(2):
            automate(client)
    (made,) = call(server, "POST", "automations/filter", {})
    assert made["trigger"]["expect"] == ["fastdrive.candidate.registered"]
    assert made["actions"][0]["parameters"] == {"version": "candidate"}


def test_a_schedule_that_is_switched_on_creates_a_run(server: Server) -> None:
    """With sqlalchemy 2.1 Prefect's scheduler failed every minute in its log and created no run; from fastapi 0.151 on
    its server refuses the nulls of its client.
    """
    wait_for(server)
    call(server, "POST", "flow_runs/filter", {"limit": None, "offset": 0})
    flow = call(server, "POST", "flows/", {"name": "weekly"})["id"]
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    schedule = {"schedule": {"interval": 86400, "anchor_date": soon}, "active": False}
    body = {"name": "retrain", "flow_id": flow, "schedules": [schedule]}
    deployment = call(server, "POST", "deployments/", body)
    place = f"deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}"
    call(server, "PATCH", place, {"active": True})
    give_up_s = time.monotonic() + 60
    ours = {"flows": {"name": {"any_": ["weekly"]}}}
    while not (runs := call(server, "POST", "flow_runs/filter", ours)):
        assert time.monotonic() < give_up_s, (server.home / "log").read_text()
        time.sleep(0.3)
    assert runs[0]["auto_scheduled"]
    assert runs[0]["state_type"] == "SCHEDULED"
