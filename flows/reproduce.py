"""The graph of dvc.yaml as a Prefect flow: one task per stage, lines live, tables and progress as artifacts.

python -m flows.reproduce                # no server needed; with PREFECT_API_URL set, it shows there
python -m flows.reproduce make_report    # on real data: the drawn world and its driver are then left alone
"""

import json
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
from prefect import artifacts, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from flows.common import artifact_key, flow_page, flow_run_id, mlflow_page, run_flow, show
from flows.dvc import Dvc, StoppedError
from stages.core import tracking
from stages.core.params import read_params
from stages.core.provenance import git_says

PROGRESS = re.compile(r"progress (.+) (\d+)/(\d+) \(")  # as stages/core/progress.py writes it
REPORT = "reports/index.html"
TABLES = ("reports/tables/*.csv", "metrics/summary.json")  # of make_report


def run_name() -> str:
    """Return the name of a run: the commit and its subject; the folder where there is no git."""
    return f"reproduce {git_says(Path.cwd(), 'log', '-1', '--format=%h %s')[:60] or Path.cwd().name}"


@flow(name="reproduce", flow_run_name=run_name)
def reproduce(target: str = "", overrides: dict[str, Any] | None = None) -> None:
    """Leave the checkout and dvc.lock as plain `dvc repro` does; with overrides it makes an experiment of DVC.

    Args:
        target: One stage with all it is made from, as `make_report`. Empty: everything.
        overrides: Other values of params.yaml, as `{"train_pruner.steps": 300}`. The checkout is then left as it is;
            `dvc exp show` compares, `dvc exp apply` takes one over.
    """
    root, log = Path.cwd(), get_run_logger()
    if overrides:
        name = f"flow-{flow_run_id()[:8]}"
        run_experiment(root, name, overrides, target)
        show_links()
        log.info("experiment %s is made: `dvc exp show` compares it, `dvc exp apply %s` takes it over", name, name)
        return
    plan = Dvc(root).plan(target)
    stale = [stage for stage, changed in plan.items() if changed]
    log.info("stale: %s", ", ".join(stale) or "nothing")
    try:
        for stage in stale:
            reproduce_stage.with_options(task_run_name=stage)(root, stage)
    finally:
        show_links()  # a failed stage has a run, too
    for path in sorted(path for pattern in TABLES for path in root.glob(pattern)):
        show_table(root, path)
    page = root / REPORT
    if page.is_file():  # browsers open it from a page of this machine only; MLflow has a copy
        about = f"`{page}` opens by double click. The same page is an artifact of the run make_report in MLflow."
        artifacts.create_link_artifact(page.as_uri(), "the report", artifact_key("report file"), about)


def _resumable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """A killed stage resumes from its checkpoint; refused input or a fault would only fail again."""
    return isinstance(state.result(raise_on_failure=False), StoppedError)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10, retry_condition_fn=_resumable)
def reproduce_stage(root: Path, stage: str, single: bool = False) -> None:
    """`dvc repro <stage>`, every line in the run's log; `single`: without its inputs. No cache: DVC owns staleness."""
    logged_dvc(root, stage).reproduce(stage, single)


@task(cache_policy=NO_CACHE)
def run_experiment(root: Path, name: str, overrides: dict[str, Any], target: str) -> None:
    """`dvc exp run` in a copy of the checkout, every line in the run's log."""
    logged_dvc(root, name).experiment(name, overrides, target)


def logged_dvc(root: Path, stage: str) -> Dvc:
    """DVC with its lines in the log of this run, and what a stage counts as bars."""
    log = get_run_logger()
    bars = Bars(stage, log.warning)

    def on_line(line: str) -> None:
        log.info(line)
        bars.update(line)

    name = flow_run_id()  # one name for all stages of the run
    env = {"FASTDRIVE_PIPELINE_RUN": name, "PREFECT__FLOW_RUN_ID": name, "FASTDRIVE_PROGRESS_S": "5"}
    return Dvc(root, on_line, env | {"FASTDRIVE_FLOW_PAGE": flow_page()})


class Bars:
    """One progress artifact for each thing that a stage counts, as long as the server accepts them."""

    def __init__(self, stage: str, warn: Callable[[str], None] = print) -> None:
        self.stage, self.warn = stage, warn
        self.ids: dict[str, UUID] = {}
        self.available = True

    def update(self, line: str) -> None:
        """Show a progress line; other lines are ignored."""
        match = PROGRESS.search(line)
        if not match or not self.available:
            return
        name, percent = match[1], 100 * int(match[2]) / max(int(match[3]), 1)
        try:
            if name not in self.ids:
                key = artifact_key(self.stage, name)
                created = artifacts.create_progress_artifact(percent, key, f"{self.stage}: {name}")
                assert isinstance(created, UUID)  # a coroutine only inside an asynchronous flow
                self.ids[name] = created
            artifacts.update_progress_artifact(self.ids[name], progress=percent)
        except Exception as error:  # whatever the client raises: no stage is stopped for a bar
            self.available = False
            self.warn(f"{self.stage}: no more progress bars, Prefect's server does not accept them: {error}")


def show_links() -> None:
    """Link the run and the report in MLflow. Never fails the flow: without an answer nothing is shown."""
    wanted = {
        "mlflow-run": ("the run in MLflow: params, metrics, files", f"tags.`pipeline.parent` = '{flow_run_id()}'", ""),
        "report": ("the report of this run", "tags.`dvc.stage` = 'make_report'", "/artifacts/index.html"),
    }
    if not flow_run_id() or not mlflow_page(""):
        return
    with suppress(Exception):
        client: Any = tracking.client(tracking.store_uri())
        place = client.get_experiment_by_name(read_params().tracking.experiment).experiment_id
        for key, (text, query, within) in wanted.items():
            ours = f"tags.`pipeline.fingerprint` = '{flow_run_id()}' and {query}"
            for run in client.search_runs([place], ours, max_results=1):
                show(mlflow_page(f"experiments/{place}/runs/{run.info.run_id}{within}"), key, text)


def show_table(root: Path, path: Path) -> None:
    """A table artifact named as the file; Prefect keeps its versions."""
    name = str(path.relative_to(root))
    if path.suffix == ".csv":
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    else:
        metrics = pd.json_normalize(json.loads(path.read_bytes())).iloc[0]
        rows = pd.DataFrame({"metric": metrics.index, "value": metrics.to_numpy()})
    artifacts.create_table_artifact(rows.to_dict("records"), artifact_key(name), name)


if __name__ == "__main__":
    run_flow(lambda: reproduce(*sys.argv[1:2]) or "reproduced")
