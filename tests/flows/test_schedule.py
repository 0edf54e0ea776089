"""A schedule fires: with sqlalchemy 2.1 Prefect's scheduler fails quietly and creates no run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

# One process with Prefect's own test server, whose services are switched on
PROGRAM = """
import sys, time
from datetime import datetime, timedelta, timezone
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.server.api.server import SubprocessASGIServer

server = SubprocessASGIServer()
server.start(timeout=180)
import os
os.environ["PREFECT_API_URL"] = server.api_url
from prefect.settings import temporary_settings, PREFECT_API_URL

@flow
def nothing(): pass

try:
    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
        flow_id = client.create_flow(nothing)
        soon = datetime.now(timezone.utc) + timedelta(seconds=5)
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        schedule = IntervalSchedule(interval=timedelta(days=1), anchor_date=soon)
        made = client.create_deployment(
            flow_id, "soon", schedules=[DeploymentScheduleCreate(schedule=schedule, active=False)]
        )
        (switch,) = client.read_deployment_schedules(made)
        client.update_deployment_schedule(made, switch.id, active=True)
        give_up = time.monotonic() + 90
        while not (runs := client.read_flow_runs()):
            assert time.monotonic() < give_up, "no run was created"
            time.sleep(0.5)
        assert runs[0].auto_scheduled
        print("CREATED", runs[0].state_name)
finally:
    server.stop()
"""


def test_a_schedule_that_is_switched_on_creates_a_run(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    env |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=300)
    assert "CREATED" in ended.stdout, ended.stderr[-3000:]
