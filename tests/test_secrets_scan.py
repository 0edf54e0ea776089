"""A stage run by DVC with passwords in its environment: no byte that it, DVC or MLflow writes holds one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import store, tracking

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own

STAGE = """
import logging, os
from pathlib import Path
from stages.core.command import run
from stages.core.errors import DataError
from stages.core.params import Params
from stages.core.tracking import stage_run

def main(params: Params) -> None:
    with stage_run("make_world", params) as record:
        record.tags({"who": os.environ["SCAN_PASSWORD"]})
        record.metrics({"images": 60})
        Path("picture.png").write_bytes(b"picture")
        record.figure(Path("picture.png"))
        Path("out.txt").write_text("made")
        if Path("fail").exists():
            raise DataError(expected=f"an answer of {os.environ['MLFLOW_TRACKING_URI']}", got="none", fix="`ls`")

run(main)
"""
SECRETS = {
    "SCAN_PASSWORD": "swordfish-0",
    "AWS_SECRET_ACCESS_KEY": "swordfish-1",
    "PREFECT_API_KEY": "swordfish-2",
    "MLFLOW_TRACKING_URI": "http://ann:swordfish-3@127.0.0.1:9",
    "GITHUB_TOKEN": "swordfish-4",
}


def test_no_byte_that_a_run_leaves_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "requirements.lock"):
        Path(name).write_bytes((ROOT / name).read_bytes())
    Path("stage.py").write_text(STAGE)
    Path("dvc.yaml").write_text("stages:\n  make_world:\n    cmd: python stage.py\n    outs: [out.txt]\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    dvc = [sys.executable, "-m", "dvc"]
    for words in ([*git, "init", "-q"], [*dvc, "init", "-q"], [*git, "add", "."], [*git, "commit", "-qm", "one"]):
        subprocess.run(words, check=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | SECRETS
    said = ""
    for fail in (False, True):
        if fail:
            Path("fail").touch()
        words = [*dvc, "repro", "-v", "--force"]
        said += subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    assert "wanted an answer of http://***@127.0.0.1:9" in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "SPOOL", Path("runs/spool"))
    spooled = b"".join(file.read_bytes() for file in Path("runs/spool").glob("*.jsonl"))
    assert spooled.count(b'"who": "***"') == 2
    assert tracking.send_all(tracking._Store(), tracking.SPOOL) == 0  # without the secrets: what is spooled is sent
    assert store.database(tmp_path).stat().st_size > 10_000
    assert Path("dvc.lock").is_file()
    held = [file for file in tmp_path.rglob("*") if file.is_file() and b"swordfish" in file.read_bytes()]
    assert not held
    assert "swordfish" not in said
