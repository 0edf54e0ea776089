"""A schedule fires: with sqlalchemy 2.1 Prefect's scheduler failed every minute in its log and created no run."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    env |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1"}
    env |= {"PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)]
    with open(tmp_path / "log", "w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=60, trust_env=False) as client:
            for _ in range(600):
                try:
                    client.get("/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    time.sleep(0.3)
            yield client
        process.terminate()


def test_a_schedule_that_is_switched_on_creates_a_run(server: httpx.Client, tmp_path: Path) -> None:
    flow = server.post("/flows/", json={"name": "retrain"}).json()["id"]
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    schedule = {"schedule": {"interval": 86400, "anchor_date": soon}, "active": False}
    body = {"name": "retrain", "flow_id": flow, "schedules": [schedule]}
    deployment = server.post("/deployments/", json=body).json()
    assert server.post("/flow_runs/filter", json={}).json() == []
    place = f"/deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}"
    server.patch(place, json={"active": True}).raise_for_status()
    give_up_s = time.monotonic() + 60
    while not (runs := server.post("/flow_runs/filter", json={}).json()):
        assert time.monotonic() < give_up_s, (tmp_path / "log").read_text()
        time.sleep(0.3)
    assert runs[0]["auto_scheduled"]
    assert runs[0]["state_type"] == "SCHEDULED"
