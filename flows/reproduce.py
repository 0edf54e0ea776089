"""The graph of dvc.yaml as a Prefect flow: one task per stage, lines live, tables and progress as artifacts.

python -m flows.reproduce                # no server needed; with PREFECT_API_URL set, it shows there
python -m flows.reproduce make_report    # on real data: the drawn world and its driver are then left alone
"""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.tasks import Task

from flows.dvc import Dvc, StoppedError
from flows.links import RunLinks, flow_page, key
from flows.outlook import look_ahead
from flows.server import require_server, told_when_gone

PROGRESS = re.compile(r"progress (.+) (\d+)/(\d+) \(")  # as stages/core/progress.py writes it
REPORT = "reports/index.html"
TABLES = ("reports/tables/*.csv", "metrics/*.json")


@flow(name="reproduce", flow_run_name=lambda: f"reproduce {checkout_name(Path.cwd())}")
def reproduce(target: str = "") -> None:
    """Leave the checkout as plain `dvc repro` does, and the same dvc.lock. DVC alone knows what is stale.

    `target`: one stage, and what it is made from.
    """
    root, log = Path.cwd(), get_run_logger()
    links = RunLinks(str(flow_run.id or ""))
    look_ahead(strict=False, target=target)
    dvc = Dvc(root, log.info, _stage_env())
    before = tables(root)
    unshown = set(before)
    for stage, stale in dvc.plan(target).items():
        if not stale:
            log.info("%s: unchanged", stage)
            continue
        try:
            reproduce_stage.with_options(task_run_name=stage)(root, stage)
        finally:
            links.look()  # what failed has a run, too
        now = tables(root)
        for path in now:
            if now[path] != before.get(path):
                show_table(root, path, stage)
                unshown.discard(path)
        before = now
    for path in sorted(unshown):
        show_table(root, path, "an earlier run")
    link_report(root)


def _killed(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """A killed stage goes on from its checkpoint; refused input or a fault would only fail again."""
    return isinstance(state.result(raise_on_failure=False), StoppedError)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10, retry_condition_fn=_killed)
def reproduce_stage(root: Path, stage: str, alone: bool = False) -> None:
    """`dvc repro <stage>`, every line in the run's log; `alone`: not its inputs. DVC owns what is stale: no cache."""
    log = get_run_logger()
    bars = Bars(stage, log.warning)

    def on_line(line: str) -> None:
        log.info(line)
        bars.see(line)

    Dvc(root, on_line, _stage_env()).reproduce(stage, alone)


def _stage_env() -> dict[str, str]:
    """What the stages of this flow run see: one name for the whole run, and a progress line every few seconds."""
    name = str(flow_run.id or "")
    env = {"FASTDRIVE_PIPELINE_RUN": name, "PREFECT__FLOW_RUN_ID": name, "FASTDRIVE_PROGRESS_S": "5"}
    return env | {"FASTDRIVE_FLOW_PAGE": flow_page()}


def checkout_name(root: Path) -> str:
    """The commit and its subject, for the name of a run; the folder where there is no git."""
    asked = ["git", "log", "-1", "--format=%h %s"]
    said = subprocess.run(asked, cwd=root, capture_output=True, text=True).stdout.strip()
    return said[:60] or root.name


class Bars:
    """One progress artifact for each thing a stage counts, as long as the server takes them."""

    def __init__(self, stage: str, say: Callable[[str], None] = print) -> None:
        self.stage, self.say = stage, say
        self.ids: dict[str, UUID] = {}
        self.shown = True

    def see(self, line: str) -> None:
        """Show a progress line; other lines are none of ours."""
        found = PROGRESS.search(line)
        if not found or not self.shown:
            return
        try:
            self._show(found[1], 100 * int(found[2]) / max(int(found[3]), 1))
        except Exception as error:  # whatever a client says whose server is gone: no stage is stopped for a bar
            self.shown = False
            self.say(f"{self.stage}: progress is shown no more, Prefect's server does not take it: {error}")

    def _show(self, what: str, percent: float) -> None:
        if what not in self.ids:
            made = create_progress_artifact(percent, key(self.stage, what), f"{self.stage}: {what}")
            assert isinstance(made, UUID)  # a coroutine only inside an asynchronous flow
            self.ids[what] = made
        update_progress_artifact(self.ids[what], progress=percent)


def tables(root: Path) -> dict[Path, int]:
    """The metric tables of the checkout, with their modification times in ns."""
    found = sorted(path for pattern in TABLES for path in root.glob(pattern))
    return {path: path.stat().st_mtime_ns for path in found}


def show_table(root: Path, path: Path, stage: str) -> None:
    """A table artifact named as the file; Prefect keeps its versions."""
    name = str(path.relative_to(root))
    create_table_artifact(list(rows(path)), key(name), f"{name}, made by {stage}")


def link_report(root: Path) -> None:
    """A link to the report as an artifact, where there is one. Browsers follow it from a page of this machine alone."""
    page = root / REPORT
    if page.is_file():
        said = f"`{page}` opens by double click. The same page is an artifact of the run make_report in MLflow."
        create_link_artifact(page.as_uri(), "the report", key("report file"), said)  # flows.links has MLflow's copy


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file, or of a JSON file of metrics as dotted names and values."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
    else:
        yield from ({"metric": name, "value": value} for name, value in _flat("", json.loads(path.read_bytes())))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, part)
    else:
        yield prefix, value


if __name__ == "__main__":
    require_server()
    with told_when_gone():
        reproduce(*sys.argv[1:2])
