"""`fastdrive doctor` on checkouts that a kill, a copy or a hand has damaged."""

import json
import shutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from stages import cli
from stages.core import tracking
from stages.core.errors import DataError
from stages.scenes.layout import TABLES

checks: Any = import_module("stages.cli.doctor")
ROOT = Path(__file__).parents[2]
LOCK = {"generate_masks": {"cmd": "python -m stages.generate_masks", "outs": [{"path": "data/masks", "md5": "1"}]}}


def states(findings: Iterable[Any]) -> list[str]:
    return [finding.state for finding in findings]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout: params, a graph, a lock."""
    for name in ("params.yaml", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": LOCK}))
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tracking, "UNSENT", Path("runs/unsent"))  # conftest shares one among the tests of a worker
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        (".dvc/tmp/rwlock", "{", "rm .dvc/tmp/rwlock"),
        ("dvc.lock", "", "git checkout dvc.lock"),
        ("dvc.lock", "schema: '2.0'\nstages:\n  one:\n    outs:\n    - md5: 1\n", "git checkout dvc.lock"),
        ("dvc.lock", "<<<<<<< ours\nschema: '2.0'\n=======\n>>>>>>> theirs\n", "git checkout --ours dvc.lock"),
    ],
)
def test_damaged_files_of_dvc_are_named_with_the_command_that_repairs_them(
    name: str, content: str, fix: str, checkout: Path
) -> None:
    assert states(checks.dvc(checkout)) == ["ok"]
    (checkout / ".dvc/tmp").mkdir(parents=True)
    (checkout / name).write_text(content)
    (finding,) = checks.dvc(checkout)
    assert (finding.state, finding.code) == ("bad", 3)
    assert fix in finding.fix


def test_runs_that_wait_are_counted_and_sent(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "runs/unsent").mkdir(parents=True)
    (checkout / "runs/unsent/1-make_world.jsonl").write_text("{}\n")
    sent = list[Path]()
    monkeypatch.setattr(tracking, "send_unsent", sent.append)
    monkeypatch.setattr(checks, "CHECKS", (checks.unsent,))
    assert "1 runs wait" in CliRunner().invoke(cli.app(), ["doctor"]).output
    assert sent == []
    CliRunner().invoke(cli.app(), ["doctor", "--fix"])
    assert sent == [checkout]


def test_outside_a_checkout_it_is_refused(checkout: Path) -> None:
    (checkout / "dvc.yaml").unlink()
    with pytest.raises(DataError, match="no dvc.yaml"):
        CliRunner().invoke(cli.app(), ["doctor"], catch_exceptions=False)


def test_wrong_params_end_with_2_and_name_the_nearest_key(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("  percents:", "  percent: 3\n  percents:"))
    monkeypatch.setattr(checks, "CHECKS", (lambda _: [checks.Finding("room", "bad", "none")], checks.settings))
    done = CliRunner().invoke(cli.app(), ["doctor"])
    assert done.exit_code == 2
    assert "'percents'" in done.output


def test_a_version_out_of_range_is_bad_and_one_that_is_not_locked_a_warning(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requires = '[project]\nrequires-python = ">=3.11"\ndependencies = ["fastapi>=0.139,<0.151"]\n'
    (checkout / "pyproject.toml").write_text(requires)
    (checkout / "requirements.lock").write_text("fastapi==0.150.0 \\\n")
    monkeypatch.setattr(checks, "installed", lambda name: "0.154.0")
    found = [one for one in checks.packages(checkout) if "fastapi" in one.got]
    assert states(found) == ["bad", "warn"]


def test_too_little_room_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(checkout)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**8, total=6 * 10**7))
    disk, _, shm = checks.room(checkout)
    assert (disk.state, disk.got, shm.state) == ("bad", "0.10 GB of disk free", "warn")


def test_a_server_that_is_down_is_named_without_its_password(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@127.0.0.1:9")
    monkeypatch.setattr(checks, "CHECKS", (checks.servers,))
    for words in (["doctor"], ["doctor", "--json"]):
        done = CliRunner().invoke(cli.app(), words)
        assert done.exit_code == 4
        assert "answers nothing: ConnectionError" in done.output
        assert "swordfish" not in done.output


def test_a_check_that_fails_hides_no_other(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_root: Path) -> Iterator[Any]:
        raise RuntimeError("odd machine")
        yield

    monkeypatch.setattr(checks, "CHECKS", (broken, checks.settings))
    assert states(checks.check(checkout)) == ["unknown", "ok"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("v1.0-mini/ego_pose.json", "ego_pose.json"),
        ("samples/CAM_FRONT/3.jpg", "1 of 10 images"),
        ("maps/expansion/singapore.json", "no map"),
        ("can_bus/scene-0001_pose.json", "no pose messages"),
    ],
)
def test_a_missing_part_of_nuscenes_is_named(
    part: str, words: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = checkout / "params.yaml"
    params.write_text(params.read_text().replace("root: data/world\n", "root: nusc\n", 1))
    root = checkout / "nusc"
    for folder in ("samples/CAM_FRONT", "v1.0-mini", "maps/expansion", "can_bus"):
        (root / folder).mkdir(parents=True)
    for name in TABLES:
        (root / f"v1.0-mini/{name}.json").write_text("[]")
    names = [f"samples/CAM_FRONT/{number}.jpg" for number in range(10)]
    for name in names:
        Image.new("RGB", (8, 8)).save(root / name)
    (root / "v1.0-mini/sample_data.json").write_text(json.dumps([{"filename": name} for name in names]))
    (root / "maps/expansion/singapore.json").write_text("{}")
    (root / "can_bus/scene-0001_pose.json").write_text("[]")
    monkeypatch.setattr(checks, "CHECKS", (checks.scenes,))
    assert states(checks.check(checkout)) == ["ok"]
    (root / part).unlink()
    (found,) = checks.check(checkout)
    assert (found.state, found.code) == ("bad", 3)
    assert words in found.got
