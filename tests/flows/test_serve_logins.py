"""`make serve` with passwords: who has none is turned away, worker, deployments and stages go on working."""

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack, serving, settings

pytestmark = pytest.mark.slow

PREFECT, MLFLOW = "ann:swordfish-in-prefect", "swordfish-in-mlflow"
LOGINS = {"PREFECT_API_AUTH_STRING": PREFECT, "MLFLOW_TRACKING_PASSWORD": MLFLOW}


@pytest.fixture(scope="module")
def stack(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    root = shutil.copytree(template, tmp_path_factory.mktemp("guarded") / "project")
    with serving(root, **LOGINS) as stack:
        yield stack


def code(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def run_deployment(stack: Stack, password: str) -> "subprocess.CompletedProcess[str]":
    words = ["deployment", "run", "reproduce/reproduce", "--watch"]
    env = settings(PREFECT_API_URL=f"{stack.prefect}/api", PREFECT_API_AUTH_STRING=password)
    env |= {"PREFECT_HOME": str(stack.root / "client"), "PREFECT_CLIENT_MAX_RETRIES": "0"}
    return subprocess.run([sys.executable, "-m", "prefect", *words], env=env, capture_output=True, text=True)


def test_who_has_no_password_is_turned_away_but_health_is_told(stack: Stack) -> None:
    assert code(f"{stack.prefect}/api/health") == 200
    assert code(f"{stack.prefect}/api/admin/version") == 401
    assert code(f"{stack.prefect}/api/deployments/name/reproduce/reproduce") == 401
    assert run_deployment(stack, "ann:swordfish").returncode != 0


def test_a_page_of_another_site_is_not_let_in(stack: Stack) -> None:
    asked = urllib.request.Request(
        f"{stack.prefect}/api/deployments/filter",
        method="OPTIONS",
        headers={"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=60)
    with refused.value:
        assert refused.value.code == 400


def test_who_has_the_password_starts_a_run_and_the_worker_does_it(stack: Stack) -> None:
    ended = run_deployment(stack, PREFECT)
    assert ended.returncode == 0, ended.stderr[-2000:] + stack.said.read_text()[-2000:]
    assert (stack.root / "metrics/report.json").is_file()


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_mlflow_turns_away_and_takes_what_a_stage_records(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    assert code(f"{stack.mlflow}/health") == 200
    assert code(f"{stack.mlflow}/version") == 401
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", MLFLOW)
    client = MlflowClient(stack.mlflow)
    run = client.create_run(client.create_experiment("guarded"))
    (stack.root / "note.txt").write_text("kept")
    client.log_artifact(run.info.run_id, str(stack.root / "note.txt"))
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["note.txt"]


def test_no_log_and_no_word_of_the_stack_has_a_password(stack: Stack) -> None:
    said = stack.said.read_text() + "".join(path.read_text() for path in (stack.root / ".local/logs").iterdir())
    assert "with PREFECT_API_AUTH_STRING" in said
    assert "swordfish" not in said


def test_another_password_than_that_of_the_first_start_is_told(stack: Stack) -> None:
    assert stack.stop() == 0
    env = settings(PREFECT_API_AUTH_STRING=PREFECT, MLFLOW_TRACKING_PASSWORD="swordfish-another")
    command = [sys.executable, "-m", "flows.serve"]
    again = subprocess.run(command, cwd=stack.root, env=env, capture_output=True, text=True)
    assert again.returncode == 2
    assert "wanted MLflow to take MLFLOW_TRACKING_PASSWORD; got 401" in again.stderr
    assert "swordfish" not in again.stdout + again.stderr
