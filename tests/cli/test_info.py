"""`fastdrive info`, `--help` and the checks of `doctor` start light; info hides passwords."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.cli.info import info

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "mlflow", "prefect", "pandas", "pyarrow", "transformers", "dvc", "deepspeed", "matplotlib")


@pytest.mark.process
@pytest.mark.parametrize(
    "program",
    [
        "import fastdrive, stages.cli as cli; cli.app()",
        "from stages.cli.info import info; info()",
        "import stages.cli.doctor_checks",
    ],
)
def test_nothing_heavy_is_imported(program: str) -> None:
    command = f"{program}; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_versions_commit_and_machine_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@localhost:5000")
    monkeypatch.setenv("FASTDRIVE_TOKEN", "swordfish-2")
    info()
    text = capsys.readouterr().out
    for word in ("torch 2.", "dvc 3.", f"{os.cpu_count()} cores", "dvc.lock with", "http://***@localhost:5000"):
        assert word in text
    assert "swordfish" not in text


def test_it_works_outside_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    info()
    text = capsys.readouterr().out
    assert "no git" in text
    assert "no dvc.lock" in text
