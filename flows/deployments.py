"""Announce the work pool and the deployments of infra/prefect.yaml to the server of PREFECT_API_URL.

python -m flows.deployments       # in the root of the checkout that the flows work in; `make serve` runs it
"""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.common import require_server
from stages.core.errors import MachineError

FILE = Path(__file__).parents[1] / "infra/prefect.yaml"
AUTOMATIONS = FILE.with_name("automations.yaml")
POOL = "fastdrive"
START_S = 240  # a server's first start, on a busy machine
OURS = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
STATES = {"any_": ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]}
UNFINISHED = FlowRunFilter.model_validate({"state": {"type": STATES}})


def main() -> None:
    """Wait for the server; deploy; keep schedules as people set them; mark runs whose process is gone as crashed."""
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            require_server()
            break
        except MachineError as error:
            if time.monotonic() > give_up_s:
                sys.exit(str(error))
            time.sleep(1)
    with get_client(sync_client=True) as client:
        deploy(client)
        automate(client)
        end_lost_runs(client)


def deploy(client: SyncPrefectClient) -> None:
    """Create the pool if it is not there, and all that infra/prefect.yaml names."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    before = {one.name: one.schedules for one in deployments(client)}
    words = ["--no-prompt", "deploy", "--all", "--prefect-file", str(FILE)]
    subprocess.run([sys.executable, "-m", "prefect", *words], check=True)
    for deployment in deployments(client):
        edited = {one.slug: one for one in before.get(deployment.name, [])}
        for schedule in deployment.schedules:
            if old := edited.get(schedule.slug):  # the cron and the switch of the UI stay
                client.update_deployment_schedule(deployment.id, schedule.id, old.active, old.schedule)


def automate(client: SyncPrefectClient) -> None:
    """Create the automations of infra/automations.yaml that are not there; to send, they need a block `alerts`."""
    named = [
        *deployments(client),
        *(block for block in client.read_block_documents(limit=200) if block.name == "alerts"),
    ]
    ids = {one.name: str(one.id) for one in named}
    for raw in yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8")):
        text = json.dumps(raw)
        for name, found in ids.items():
            text = text.replace(f"{{{name}}}", found)
        if "{alerts}" not in text and not client.read_automations_by_name(raw["name"]):
            client.create_automation(AutomationCore.model_validate_json(text))


def deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """The deployments of the pool."""
    return client.read_deployments(work_pool_filter=OURS, limit=100)


def end_lost_runs(client: SyncPrefectClient) -> None:
    """Crash unfinished runs without a process on this machine: they would hold the place of the next for ever."""
    running = set()  # ids of the flow runs that have a process on this machine
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "prefect.engine" in process.cmdline():
                running.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
    for run in client.read_flow_runs(flow_run_filter=UNFINISHED, work_pool_filter=OURS, limit=200):
        if str(run.id) not in running:
            client.set_flow_run_state(run.id, Crashed(message="its worker or its process was killed"))


if __name__ == "__main__":
    main()
