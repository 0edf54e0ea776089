"""`fastdrive info` and `doctor` start light; info hides passwords."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from stages.health.look import names
from stages.health.report import report

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "mlflow", "prefect", "pandas", "numpy", "pyarrow", "transformers", "dvc", "deepspeed", "matplotlib")


def loaded(program: str) -> str:
    command = f"{program}; import sys; print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_the_report_of_an_issue_imports_nothing_heavy_and_takes_less_than_a_second_of_a_core() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert loaded("from stages.cli.info import info; info()") == "HEAVY []"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1


def test_no_check_imports_anything_heavy() -> None:
    checks = "; ".join(f"import stages.health.checks.{name}" for name in names())
    assert loaded(f"import stages.cli.doctor, stages.health.look, stages.health.telling; {checks}") == "HEAVY []"


def test_the_report_says_versions_commit_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@localhost:5000")
    monkeypatch.setenv("FASTDRIVE_TOKEN", "swordfish-2")
    said = report(ROOT)
    for word in ("torch 2.", "dvc 3.", f"{os.cpu_count()} cores", "dvc.lock with", "http://***@localhost:5000"):
        assert word in said
    assert "swordfish" not in said


def test_outside_a_checkout_the_report_is_still_one(tmp_path: Path) -> None:
    said = report(tmp_path)
    assert "no git" in said
    assert "no dvc.lock" in said
