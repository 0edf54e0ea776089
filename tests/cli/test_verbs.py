"""The `fastdrive` command: every verb has a help that fits a screen, and ends as the README says."""

import contextvars
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages import cli
from stages.cli import EndedError
from stages.core.errors import ParamsError

ROOT = Path(__file__).parents[2]


def fastdrive(*words: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "fastdrive.py"), *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=env)


@pytest.mark.parametrize("name", cli.VERBS)
def test_the_help_of_a_verb_fits_a_screen_and_ends_with_an_example_that_begins_with_it(name: str) -> None:
    lines = CliRunner().invoke(cli.app(), [name, "--help"], env={"COLUMNS": "100"}).output.strip().splitlines()
    assert len(lines) <= 24
    assert lines[-1].strip().startswith(f"Example: fastdrive {name}")


def test_help_lists_every_verb() -> None:
    listed = CliRunner().invoke(cli.app(), ["--help"]).output
    assert all(f"  {name} " in listed for name in cli.VERBS)


def test_an_unknown_verb_ends_with_2() -> None:
    assert CliRunner().invoke(cli.app(), ["prun"]).exit_code == 2


@pytest.mark.process
def test_wrong_params_end_with_2_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("grid: 3\n")
    done = fastdrive("lineage", "champion", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_verb_ends_with_the_signals_code(sent: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    waiting = import_module("stages.cli.schema")
    monkeypatch.setattr(waiting, "schema", lambda: os.kill(os.getpid(), sent) or time.sleep(5))
    monkeypatch.setattr(sys, "argv", ["fastdrive", "schema"])
    with pytest.raises(SystemExit) as ended:
        contextvars.copy_context().run(cli.run)
    assert ended.value.code == code


def test_the_schema_knows_the_sections_of_params() -> None:
    assert '"train_pruner"' in CliRunner().invoke(cli.app(), ["schema"]).output


def test_a_path_that_cannot_be_written_ends_with_4_and_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = import_module("stages.cli.schema")
    monkeypatch.setattr(schema, "schema", lambda: tmp_path.write_bytes(b""))
    monkeypatch.setattr(sys, "argv", ["fastdrive", "schema"])
    with pytest.raises(SystemExit) as ended:
        contextvars.copy_context().run(cli.run)
    assert ended.value.code == 4
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.process
def test_an_environment_without_the_packages_names_the_command_that_makes_them() -> None:
    program = "import sys; sys.modules['typer'] = None; import fastdrive; fastdrive.main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4
    assert "make doctor" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_verb_is_a_function_in_python_too(capsys: pytest.CaptureFixture[str]) -> None:
    import fastdrive as package

    package.schema()
    assert '"train_pruner"' in capsys.readouterr().out
    with pytest.raises(ParamsError, match="train_pruner.alpha"):
        package.explain("train_pruner.alfa")
    assert callable(package.plan)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = package.nothing_like_it


@pytest.mark.process
def test_a_verb_that_starts_a_command_waits_for_it_in_python(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EndedError) as ended:
        cli.function("lineage")("no-such-name")
    assert ended.value.code == 3
    assert "no-such-name" in capfd.readouterr().err
