"""`fastdrive doctor` on checkouts that a kill, a copy or a hand has damaged."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from stages.cli import doctor_checks as checks
from stages.cli.doctor_checks import Finding
from stages.core.io import write_manifest
from stages.scenes.layout import TABLES

ROOT = Path(__file__).parents[2]
DEAD = 2**22 - 7  # no process here has such a number


def states(findings: Iterable[Finding]) -> list[str]:
    return [finding.state for finding in findings]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout: params, a graph, a lock, a folder with its manifest."""
    for name in ("params.yaml", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (tmp_path / "data/masks").mkdir(parents=True)
    (tmp_path / "data/masks/a.tar").write_bytes(b"masks")
    write_manifest(tmp_path / "data/masks", [tmp_path / "data/masks/a.tar"], {})
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(checks, "running_stages", lambda root: [])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def old(path: Path) -> Path:
    """The path, last written an hour ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"half")
    os.utime(path, (0, path.stat().st_mtime - 3600))
    return path


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.tar", None),
        ("a.tar", b"mbsks"),
        ("manifest.json", b"{}"),
    ],
)
def test_a_folder_that_differs_from_its_manifest_is_bad(file: str, content: bytes | None, checkout: Path) -> None:
    assert states(checks.outputs(checkout)) == ["ok"]
    path = checkout / "data/masks" / file
    path.unlink() if content is None else path.write_bytes(content)
    (finding,) = checks.outputs(checkout)
    assert (finding.state, finding.code, finding.fixable) == ("bad", 3, False)
    assert "data/masks" in finding.got + finding.expected
    assert "dvc repro generate_masks" in finding.fix


@pytest.mark.process
def test_outputs_are_not_judged_while_a_stage_runs(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "stages.generate_masks"]
    with subprocess.Popen(program, cwd=tmp_path) as running:
        try:
            assert checks.running_stages(tmp_path) == ["generate_masks"]
            assert states(checks.outputs(tmp_path)) == ["unknown"]
        finally:
            running.kill()
    assert checks.running_stages(tmp_path) == []


def test_a_checkpoint_that_was_cut_short_is_removed_and_a_whole_one_stays(checkout: Path) -> None:
    whole, half = (checkout / f"runs/train_pruner/0123/step_000000{step}" for step in (1, 2))
    for folder in (whole, half):
        old(folder / "state.json")
    write_manifest(whole, [whole / "state.json"], {})
    old(half)
    assert states(one for one in checks.outputs(checkout) if one.fixable) == ["warn"]
    assert len(list(checks.fix_outputs(checkout))) == 1
    assert whole.is_dir()
    assert states(checks.outputs(checkout)) == ["ok"]


def test_only_old_files_of_dead_processes_are_removed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    left = [old(checkout / name) for name in (f"data/masks/.a.parquet.{DEAD}.0123abcd.tmp", f"mlflow.db.{DEAD}.tmp")]
    living = old(checkout / f"data/masks/.a.parquet.{os.getpid()}.0123abcd.tmp")
    new = checkout / f"data/.b.{DEAD}.0123abcd.tmp"
    new.write_bytes(b"another machine is writing")
    others = [old(checkout / name) for name in ("data/.index.tmp", f"data/x.{DEAD}", "mlflow.db.20261127")]
    outside = old(tmp_path_factory.mktemp("elsewhere") / f".a.{DEAD}.0123abcd.tmp")
    (checkout / "data/link").symlink_to(outside.parent)
    (found,) = checks.temporaries(checkout)
    assert (found.state, found.fixable) == ("warn", True)
    assert len(list(checks.fix_temporaries(checkout))) == 2
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (living, new, outside, *others))
    assert states(checks.temporaries(checkout)) == ["ok"]


@pytest.mark.parametrize(
    ("name", "content", "fixable"),
    [
        (".dvc/tmp/rwlock", "{", True),
        ("dvc.lock", "", True),
        ("dvc.lock", "schema: '2.0'\nstages:\n  one:\n    outs:\n    - md5: 1\n", True),
        ("dvc.lock", "<<<<<<< ours\nschema: '2.0'\n=======\n>>>>>>> theirs\n", False),
    ],
)
def test_damaged_files_of_dvc_are_repaired_and_a_merge_is_left_to_the_person(
    name: str, content: str, fixable: bool, checkout: Path
) -> None:
    assert states(checks.dvc(checkout)) == ["ok"]
    (checkout / ".dvc/tmp").mkdir(parents=True)
    (checkout / name).write_text(content)
    old(checkout / name)
    (found,) = checks.dvc(checkout)
    assert (found.state, found.fixable) == ("bad", fixable)
    if fixable:
        assert len(list(checks.fix_dvc(checkout))) == 1
        assert states(checks.dvc(checkout)) == ["ok"]


def test_runs_that_wait_are_counted_and_sent(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.tracking, "UNSENT", Path("runs/unsent"))
    (checkout / "runs/unsent").mkdir(parents=True)
    (checkout / "runs/unsent/1-make_world.jsonl").write_text("{}\n")
    assert states(checks.unsent(checkout)) == ["warn"]
    monkeypatch.setattr(checks.tracking, "send_unsent", lambda root: 0)
    assert list(checks.fix_unsent(checkout)) == ["unsent: 1 runs sent, 0 left"]


@pytest.mark.process
def test_a_second_run_after_the_repair_is_clean(checkout: Path) -> None:
    (checkout / "dvc.lock").write_text("")
    old(checkout / f"data/.x.{DEAD}.0123abcd.tmp")
    command = [sys.executable, str(ROOT / "fastdrive.py"), "doctor", "--fix", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    assert len(report["fixed"]) == 2
    repaired = [found for found in report["findings"] if found["name"] in ("dvc", "temporaries", "unsent", "outputs")]
    assert {found["state"] for found in repaired} == {"ok"}


def test_wrong_params_end_with_2_and_name_the_nearest_key(checkout: Path) -> None:
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("  percents:", "  percent: 3\n  percents:"))
    (found,) = checks.settings(checkout)
    assert (found.state, found.code) == ("bad", 2)
    assert "'percents'" in found.got
    assert checks.exit_code([found, Finding("room", "bad", "none", code=4)]) == 2


def test_a_version_out_of_range_is_bad_and_one_that_is_not_locked_a_warning(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requires = '[project]\nrequires-python = ">=3.11"\ndependencies = ["fastapi>=0.139,<0.151"]\n'
    (checkout / "pyproject.toml").write_text(requires)
    (checkout / "requirements.lock").write_text("fastapi==0.150.0 \\\n")
    monkeypatch.setattr(checks, "installed", lambda name: "0.154.0")
    found = [one for one in checks.packages(checkout) if "fastapi" in one.got]
    assert states(found) == ["bad", "warn"]


def test_the_holder_of_a_port_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as held:
        monkeypatch.setenv("FASTDRIVE_MLFLOW_PORT", str(held.getsockname()[1]))
        (found,) = [one for one in checks.ports(checkout) if "mlflow" in one.got]
    assert found.state == "warn"
    assert str(os.getpid()) in found.got


def test_a_server_that_is_down_is_named_without_its_password(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@127.0.0.1:9")
    found = list(checks.servers(checkout))
    assert states(found) == ["bad", "ok"]
    for text in (checks.as_text(found, []), checks.as_json(found, [], 4)):
        assert "MLFLOW_TRACKING_URI" in text
        assert "swordfish" not in text


def test_a_check_that_fails_hides_no_other(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_root: Path) -> Iterator[Finding]:
        raise RuntimeError("odd machine")
        yield

    monkeypatch.setattr(checks, "CHECKS", {"ports": broken, "settings": checks.settings})
    assert states(checks.check(checkout)) == ["unknown", "ok"]


@pytest.fixture
def nuscenes(checkout: Path) -> Path:
    """Params that name `nusc`: a root with ten images, one map, messages of one scene."""
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
    assert states(checks.scenes(checkout)) == ["ok"]
    return root


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("v1.0-mini/ego_pose.json", "ego_pose.json"),
        ("samples/CAM_FRONT/3.jpg", "1 of 10 images"),
        ("maps/expansion/singapore.json", "no map"),
        ("can_bus/scene-0001_pose.json", "no pose messages"),
    ],
)
def test_a_missing_part_of_nuscenes_is_named(part: str, words: str, nuscenes: Path) -> None:
    (nuscenes / part).unlink()
    (found,) = checks.scenes(nuscenes.parent)
    assert (found.state, found.code) == ("bad", 3)
    assert words in found.got


@pytest.mark.parametrize(
    ("part", "words"),
    [("samples/CAM_FRONT/4.jpg", "cannot be decoded"), ("maps/expansion/singapore.json", "no JSON")],
)
def test_a_half_copied_part_of_nuscenes_is_named(part: str, words: str, nuscenes: Path) -> None:
    path = nuscenes / part
    path.write_bytes(b"[" + path.read_bytes()[:-1])
    (found,) = checks.scenes(nuscenes.parent)
    assert words in found.got
