"""`fastdrive doctor` on checkouts that a kill, a copy or a hand has damaged."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows import services
from stages.core import tracking
from stages.core.io import write_manifest
from stages.core.params import read_params
from stages.core.tracking import Run
from stages.health import look
from stages.health.checks import dvc as dvc_files
from stages.health.checks import outputs, packages, ports, servers, settings, spool, temporaries
from stages.health.finding import Finding
from stages.health.telling import as_json, told

ROOT = Path(__file__).parents[2]
DEAD = 2**22 - 7  # no process here has such a number


def states(found: Iterator[Finding]) -> list[str]:
    return [finding.state for finding in found]


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
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "damage", ["a.tar removed", "a.tar longer", "a.tar flipped", "manifest removed", "manifest {}"]
)
def test_a_folder_that_is_not_as_its_manifest_says_is_bad(damage: str, checkout: Path) -> None:
    assert states(outputs.check(checkout)) == ["ok"]
    file = checkout / "data/masks" / ("manifest.json" if "manifest" in damage else "a.tar")
    match damage.split()[1]:
        case "removed":
            file.unlink()
        case "longer":
            file.write_bytes(b"masks and more")
        case "flipped":
            file.write_bytes(b"mbsks")
        case text:
            file.write_text(text)
    (finding,) = outputs.check(checkout)
    assert (finding.state, finding.code, finding.fixable) == ("bad", 3, False)
    assert "data/masks" in finding.got + finding.expected
    assert "`dvc repro generate_masks`" in finding.fix


def test_nothing_is_called_half_written_while_a_stage_writes(checkout: Path) -> None:
    (checkout / "data/masks/manifest.json").unlink()
    run = Run(checkout / "runs/unsent/1-generate_masks-0123abcd.jsonl", {})
    (finding,) = outputs.check(checkout)
    assert (finding.state, finding.got) == ("unknown", "generate_masks runs now")
    run.end("FINISHED")
    assert states(outputs.check(checkout)) == ["bad"]


def test_an_output_that_dvc_lock_knows_otherwise_is_named(checkout: Path) -> None:
    lock = {"schema": "2.0", "stages": {"plan": {"cmd": "x", "outs": [{"path": "data/masks", "size": 1, "md5": "a"}]}}}
    (checkout / "dvc.lock").write_text(json.dumps(lock))
    (finding,) = outputs.check(checkout)
    assert (finding.state, finding.fix) == ("warn", "`dvc repro plan`")


def test_a_checkpoint_that_was_cut_short_goes_and_a_whole_one_stays(checkout: Path) -> None:
    whole, half = (checkout / f"runs/train_pruner/0123/step_000000{step}" for step in (1, 2))
    for folder in (whole, half):
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    write_manifest(whole, [whole / "state.json"], {})
    found = [one for one in outputs.check(checkout) if one.fixable]
    assert [one.state for one in found] == ["warn"]
    assert list(outputs.fix(checkout)) == ["outputs: removed runs/train_pruner/0123/step_0000002"]
    assert whole.is_dir()
    assert states(outputs.check(checkout)) == ["ok"]


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(checkout: Path) -> None:
    dead, living = (checkout / f"data/masks/.index.parquet.{pid}.0123abcd.tmp" for pid in (DEAD, os.getpid()))
    others = checkout / "data/masks/.index.tmp", checkout / f"data/x.{DEAD}"
    for path in (dead, living, *others):
        path.write_bytes(b"half")
    (found,) = temporaries.check(checkout)
    assert (found.state, found.fixable) == ("warn", True)
    assert list(temporaries.fix(checkout)) == [f"temporaries: removed {dead.relative_to(checkout)}"]
    assert not dead.exists()
    assert all(path.exists() for path in (living, *others))
    assert states(temporaries.check(checkout)) == ["ok"]


def test_a_copy_of_the_database_named_by_a_date_is_a_persons(checkout: Path) -> None:
    copy, left = checkout / "mlflow.db.20261127", checkout / f"mlflow.db.{DEAD}.tmp"
    for path in (copy, left):
        path.write_bytes(b"all runs")
    assert list(temporaries.fix(checkout)) == [f"temporaries: removed {left.name}"]
    assert copy.is_file()


def test_a_link_out_of_the_checkout_is_not_followed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / f".a.{DEAD}.0123abcd.tmp").write_bytes(b"")
    (checkout / "data/link").symlink_to(elsewhere)
    assert states(temporaries.check(checkout)) == ["ok"]


def holder(pid: int, cmd: str) -> str:
    return json.dumps({"read": {}, "write": {"/x/data": {"pid": pid, "cmd": cmd}}})


@pytest.mark.parametrize(
    ("rwlock", "state"),
    [
        ("", "bad"),
        ("[1]", "bad"),
        ('{"write": {"x": 3}}', "bad"),
        ("{}", "ok"),
        (holder(DEAD, "dvc repro"), "warn"),
        (holder(os.getpid(), "dvc repro of another that had this number"), "warn"),
        (holder(os.getpid(), " ".join(psutil.Process().cmdline())), "ok"),
    ],
)
def test_a_lock_of_processes_that_are_gone_is_found_and_mended_by_the_flow(
    rwlock: str, state: str, checkout: Path
) -> None:
    (checkout / ".dvc/tmp").mkdir(parents=True)
    (checkout / ".dvc/tmp/rwlock").write_text(rwlock)
    (found,) = dvc_files.check(checkout)
    assert (found.state, found.fixable) == (state, state != "ok")
    assert bool(list(dvc_files.fix(checkout))) == (state != "ok")
    assert (checkout / ".dvc/tmp/rwlock").exists() == (state == "ok")


def test_a_lock_in_a_merge_is_named_and_left_to_the_person(checkout: Path) -> None:
    (checkout / "dvc.lock").write_text("<<<<<<< ours\nschema: '2.0'\n=======\n>>>>>>> theirs\n")
    (found,) = dvc_files.check(checkout)
    assert (found.state, found.fixable) == ("bad", False)
    list(dvc_files.fix(checkout))
    assert "ours" in (checkout / "dvc.lock").read_text()


def test_a_second_look_after_the_repair_is_clean(checkout: Path) -> None:
    (checkout / "dvc.lock").write_text("")
    (checkout / ".dvc/tmp").mkdir(parents=True)
    (checkout / ".dvc/tmp/rwlock").write_text("{")
    (checkout / f"data/.x.{DEAD}.0123abcd.tmp").write_text("")
    command = [sys.executable, str(ROOT / "fastdrive.py"), "doctor", "--fix", "--json"]
    first = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    assert len(first["fixed"]) == 3
    second = json.loads(subprocess.run(command[:-2] + ["--json"], capture_output=True, text=True).stdout)
    mended = [found for found in second["findings"] if found["name"] in ("dvc", "temporaries", "spool", "outputs")]
    assert {found["state"] for found in mended} == {"ok"}
    assert second["fixed"] == []


def test_runs_that_wait_are_counted(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "UNSENT", Path("runs/unsent"))
    Run(checkout / "runs/unsent/1-make_world-0123abcd.jsonl", {}).end("FINISHED")
    (found,) = spool.check(checkout)
    assert (found.state, found.fixable) == ("warn", True)


def test_wrong_params_are_told_with_the_nearest_name(checkout: Path) -> None:
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("  percents:", "  percent: 3\n  percents:"))
    (found,) = settings.check(checkout)
    assert (found.state, found.code) == ("bad", 2)
    assert "did you mean 'percents'?" in found.got
    assert look.exit_code([found, Finding("room", "bad", "none", code=4)]) == 2


def test_a_range_that_is_not_kept_is_bad_and_another_version_than_locked_a_warning(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "installed", lambda name: "0.154.0" if name == "fastapi" else "")
    lines = ["fastapi>=0.139,<0.151"]
    assert states(packages._ranges(lines)) == ["bad"]
    (found,) = packages._lock({"fastapi": "0.150.0"})
    assert (found.state, found.got) == ("warn", "1 other versions: fastapi 0.154.0")


def test_who_holds_a_port_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        monkeypatch.setenv("FASTDRIVE_MLFLOW_PORT", str(held.getsockname()[1]))
        (found,) = [one for one in ports.check(checkout) if "mlflow" in one.got]
        assert found.state == "warn"
        assert str(os.getpid()) in found.got
        (checkout / ".local").mkdir()
        with open(checkout / ".local/serve.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (found,) = [one for one in ports.check(checkout) if "mlflow" in one.got]
        assert found.state == "ok"
    assert ports.PORTS == services.PORTS


def test_a_server_that_is_down_is_named_without_its_password(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@127.0.0.1:9")
    found = list(servers.check(checkout))
    assert states(iter(found)) == ["bad", "ok"]
    for words in (told(found, []), as_json(found, [], 4)):
        assert "MLFLOW_TRACKING_URI" in words
        assert "swordfish" not in words


def test_a_check_that_fails_hides_no_other(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_root: Path) -> Iterator[Finding]:
        raise RuntimeError("odd machine")
        yield

    monkeypatch.setattr(ports, "check", broken)
    found = list(look.look(checkout))
    assert {finding.name for finding in found} == set(look.names())
    assert [one.state for one in found if one.name == "ports"] == ["unknown"]


def test_params_of_the_checkout_are_those_of_the_test() -> None:
    assert read_params(ROOT / "params.yaml").scenes.root == "data/world"
