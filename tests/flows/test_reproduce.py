"""The flow without any server: the lock of plain `dvc repro`, a task a stage, tables and progress as artifacts."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process

# One process, since each starts its own server for half a minute: a fresh run, one with nothing to do, a fault.
RUNS = """
import os, sys
from flows.reproduce import reproduce
for folder in sys.argv[1:]:
    os.chdir(folder)
    print("RUN", folder, flush=True)
    print("STATE", reproduce(return_state=True).type.value, flush=True)
"""


@dataclass(frozen=True)
class Flown:
    """Checkouts after the flow runs, the output of each of the three runs, and the tables of Prefect."""

    good: Path
    faulty: Path
    output: list[str]
    database: Path

    def rows(self, question: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(self.database) as database:
            return database.execute(question).fetchall()


@pytest.fixture(scope="module")
def flown(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Flown:
    home = tmp_path_factory.mktemp("flown")
    good, faulty = (shutil.copytree(template, home / name) for name in ("good", "faulty"))
    (good / "reports").mkdir()
    (good / "reports/index.html").write_text("a page")
    (faulty / "fault").write_text("sys.exit('expected masks, got none')")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    ended = subprocess.run(
        [sys.executable, "-c", RUNS, good, good, faulty],
        cwd=home,
        env=env | {"PYTHONPATH": str(ROOT), "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout
    return Flown(good, faulty, ended.stdout.split("RUN ")[1:], home / ".local/prefect/prefect.db")


def test_the_flow_leaves_the_lock_of_plain_dvc_repro(flown: Flown, reproduced: Path) -> None:
    assert "STATE COMPLETED" in flown.output[0]
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
    assert "STATE COMPLETED" in flown.output[1]
    assert "stale: nothing" in flown.output[1]
    assert flown.rows("select count(*) from task_run") == [(8,)]  # four of the first run, four of the faulty one


def test_a_fault_of_a_stage_fails_the_flow_and_names_it(flown: Flown) -> None:
    assert "STATE FAILED" in flown.output[2]
    assert "expected masks, got none" in flown.output[2]
    assert (flown.faulty / "out/plan_recon.txt").is_file()
