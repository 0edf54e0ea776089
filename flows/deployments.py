"""Tell the Prefect server of PREFECT_API_URL what its worker can run: the work pool and the deployments.

python -m flows.deployments             # `make serve` calls it; in the root of the checkout that the flows work in
python -m flows.deployments leftovers   # only the last step: behind a worker that died
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort, FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.services import POOL

FILE = Path(__file__).parents[1] / "infra/prefect.yaml"
AT_WORK = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


def main() -> None:
    """Deploy; what a person switched on stays on; what the last worker left behind is told dead."""
    with get_client(sync_client=True) as client:
        if sys.argv[1:] != ["leftovers"]:
            deploy(client)
        end_leftovers(client)


def deploy(client: SyncPrefectClient) -> None:
    """The pool where it is not there, and all that infra/prefect.yaml says."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    active = {schedule for schedule, on in schedules(client).items() if on}
    words = ["--no-prompt", "deploy", "--all", "--prefect-file", str(FILE)]
    subprocess.run([sys.executable, "-m", "prefect", *words], check=True)
    switch_on(client, active)


def deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Those of the pool."""
    return client.read_deployments(work_pool_filter=_pool(), limit=100, sort=DeploymentSort.NAME_ASC)


def schedules(client: SyncPrefectClient) -> dict[tuple[str, str], bool]:
    """(deployment, slug) of each schedule of the pool: is it on?"""
    return {
        (deployment.name, schedule.slug or ""): schedule.active
        for deployment in deployments(client)
        for schedule in deployment.schedules
    }


def switch_on(client: SyncPrefectClient, active: Iterable[tuple[str, str]]) -> None:
    """The file says `active: false`, and to deploy it again would undo what a person chose."""
    for deployment in deployments(client):
        for schedule in deployment.schedules:
            if (deployment.name, schedule.slug or "") in active and not schedule.active:
                client.update_deployment_schedule(deployment.id, schedule.id, active=True)


def end_leftovers(client: SyncPrefectClient) -> None:
    """Runs of the pool that stand as running and have no process on this machine any more (kill, power) are crashed.

    They would hold the place of the next run for ever. One whose process outlived its worker goes on.
    """
    asked = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=AT_WORK)))
    oldest, living = FlowRunSort.EXPECTED_START_TIME_ASC, set(at_work())
    for run in client.read_flow_runs(flow_run_filter=asked, work_pool_filter=_pool(), limit=200, sort=oldest):
        if str(run.id) not in living:
            client.set_flow_run_state(run.id, Crashed(message="its worker or its process was killed"))


def at_work() -> Iterator[str]:
    """Ids of the flow runs that have a process here."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "prefect.engine" in process.cmdline():
                yield process.environ().get("PREFECT__FLOW_RUN_ID", "")


def _pool() -> WorkPoolFilter:
    return WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))


if __name__ == "__main__":
    main()
