"""Who decides, addresses of pages, a server that does not answer."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.common import artifact_key, person, version_page
from stages.core.errors import ParamsError

ROOT = Path(__file__).parents[2]
DEPLOYED = "PREFECT__RUNTIME__DEPLOYMENT__ID"  # Prefect's own setting for tests


def test_by_hand_it_is_the_user_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert (person(""), person(" bob ")) == ("ann", "bob")


def test_a_deployment_without_a_name_is_refused_because_its_worker_did_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DEPLOYED, "d1")
    with pytest.raises(ParamsError, match="--by"):
        person("  ")
    assert person("bob") == "bob"


def test_a_page_is_on_the_server_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDRIVE_MLFLOW_PAGES", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@mlflow:5000/")
    page = "models/recon%20pruner/versions/3?workflowType=machine_learning"
    assert version_page("recon pruner", "3") == f"http://mlflow:5000/#/{page}"
    monkeypatch.setenv("FASTDRIVE_MLFLOW_PAGES", "http://127.0.0.1:5000")
    assert version_page("recon pruner", "3") == f"http://127.0.0.1:5000/#/{page}"
    monkeypatch.delenv("FASTDRIVE_MLFLOW_PAGES")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert version_page("m", "3") == ""


def test_an_artifact_key_is_as_prefect_takes_it() -> None:
    assert artifact_key("plan@recon", "Key frames") == "plan-recon-key-frames"


@pytest.mark.process
def test_a_server_that_does_not_answer_is_one_line_without_its_password(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://ann:swordfish@127.0.0.1:9/api"}
    command = [sys.executable, "-m", "flows.rollback", "--reason", "late"]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ended.returncode == 4
    assert "make serve" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "swordfish" not in ended.stderr
