"""The `fastdrive` command: it starts light, every verb has a help that fits a screen, and ends as the README says."""

import contextvars
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fastdrive
from stages import cli
from stages.cli.doctor import info
from stages.core.errors import ParamsError

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "mlflow", "prefect", "pandas", "pyarrow", "transformers", "dvc", "deepspeed", "matplotlib")


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and stderr of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["fastdrive", *words])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    with pytest.raises(SystemExit) as ended:
        contextvars.copy_context().run(cli.run)
    return int(str(ended.value.code)), capsys.readouterr().err


@pytest.mark.parametrize("name", cli.VERBS)
def test_the_help_of_a_verb_fits_a_screen_and_ends_with_an_example_that_begins_with_it(name: str) -> None:
    lines = CliRunner().invoke(cli.app(), [name, "--help"], env={"COLUMNS": "100"}).output.strip().splitlines()
    assert len(lines) <= 24
    assert lines[-1].strip().startswith(f"Example: fastdrive {name}")


def test_help_lists_every_verb_and_an_unknown_one_ends_with_2() -> None:
    listed = CliRunner().invoke(cli.app(), ["--help"]).output
    assert all(f"  {name} " in listed for name in cli.VERBS)
    assert CliRunner().invoke(cli.app(), ["prun"]).exit_code == 2


@pytest.mark.process
def test_help_and_info_import_nothing_heavy() -> None:
    command = "import fastdrive, stages.cli as cli; cli.app(); from stages.cli.doctor import info; info()"
    command += f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.process
def test_an_environment_without_the_packages_names_the_command_that_makes_them() -> None:
    program = "import sys; sys.modules['typer'] = None; import fastdrive; fastdrive.main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4
    assert "make doctor" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_params_end_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text("grid: 3\n")
    monkeypatch.chdir(tmp_path)
    code, text = run(monkeypatch, capsys, "explain", "grid")
    assert code == 2
    assert text.startswith("expected ")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_verb_ends_with_the_signals_code(
    sent: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = import_module("stages.cli.plan")
    monkeypatch.setattr(waiting, "schema", lambda: os.kill(os.getpid(), sent) or time.sleep(5))
    assert run(monkeypatch, capsys, "schema")[0] == code


def test_a_path_that_cannot_be_written_ends_with_4_and_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = import_module("stages.cli.plan")
    monkeypatch.setattr(schema, "schema", lambda: tmp_path.write_bytes(b""))
    code, text = run(monkeypatch, capsys, "schema")
    assert code == 4
    assert str(tmp_path) in text


def test_a_verb_is_a_function_in_python_too(capsys: pytest.CaptureFixture[str]) -> None:
    fastdrive.schema()
    assert '"train_pruner"' in capsys.readouterr().out
    with pytest.raises(ParamsError, match="train_pruner.alpha"):
        fastdrive.explain("train_pruner.alfa")
    assert callable(fastdrive.plan)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = fastdrive.nothing_like_it


@pytest.mark.parametrize(
    ("words", "module", "given"),
    [
        (["lineage", "champion"], "stages.registry.lineage", ["--", "champion"]),
        (["promote", "--approve", "good"], "flows.promote", ["--version=candidate", "--approve=good", "--by="]),
        (["rollback", "--reason", "late"], "flows.rollback", ["--reason=late", "--by=", "--champion="]),
        (["register"], "stages.registry.register", ["--", "recon"]),
        (["retrain", "--when", "drift"], "flows.retrain", ["--when=drift", "--pruner=recon"]),
        (["reproduce"], "dvc", ["repro"]),
        (["reproduce", "--flow"], "flows.reproduce", []),
    ],
)
def test_a_verb_that_starts_a_command_becomes_it_and_waits_for_it_in_python(
    words: list[str], module: str, given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def become(_: str, command: list[str]) -> None:
        assert command == [sys.executable, "-m", module, *given]
        sys.exit(3)

    monkeypatch.setenv("PATH", os.environ["PATH"])  # reproduce puts the environment's own first
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")  # nobody knows yet what it holds
    assert run(monkeypatch, capsys, *words)[0] == 3


@pytest.mark.parametrize("words", [["promote"], ["rollback", "--reason", "late"]])
def test_a_version_that_is_not_there_is_refused_before_anything_heavy_starts(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, text = run(monkeypatch, capsys, *words)
    assert (code, "got no version with an alias" in text) == (3, True)


@pytest.mark.process
def test_a_command_that_fails_in_python_is_an_error_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("stages.cli.verbs"), "hand_over", lambda *_: cli.hand_over("json.tool", "no"))
    with pytest.raises(subprocess.CalledProcessError) as ended:
        fastdrive.lineage("no-such-name")
    assert ended.value.returncode != 0


def test_versions_commit_and_machine_are_printed_without_passwords(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@localhost:5000")
    monkeypatch.setenv("FASTDRIVE_TOKEN", "swordfish-2")
    info()
    text = capsys.readouterr().out
    for word in ("torch 2.", "dvc 3.", f"{os.cpu_count()} cores", "dvc.lock with", "http://***@localhost:5000"):
        assert word in text
    assert "swordfish" not in text
    monkeypatch.chdir(tmp_path)
    info()
    text = capsys.readouterr().out
    assert "no git" in text
    assert "no dvc.lock" in text
