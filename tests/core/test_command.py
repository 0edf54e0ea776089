"""How a stage starts and ends, and the record that it leaves."""

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.core import command
from stages.core.command import again, cell, last_seconds, logged_stage, run
from stages.core.errors import DataError, MachineError, ParamsError


def test_the_cell_is_the_argument_or_what_dvc_names_and_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stage", "divprune"])
    assert cell(["none", "divprune"]) == "divprune"
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setenv("DVC_STAGE", "plan_routes@none")
    assert cell(["none", "divprune"]) == "none"
    monkeypatch.setattr("sys.argv", ["stage", "other"])
    with pytest.raises(ParamsError, match="one of none, divprune"):
        cell(["none", "divprune"])


WORDS = {"expected": "this", "got": "that", "fix": "do it"}
ENDS = [(kind(**WORDS), code) for kind, code in ((ParamsError, 2), (DataError, 3), (MachineError, 4))]


@pytest.mark.parametrize(("error", "code"), [*ENDS, (KeyboardInterrupt(), 130)])
def test_an_error_of_the_user_and_ctrl_c_end_with_their_codes_and_no_traceback(
    error: BaseException, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def main(params: object) -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == code
    words = capfd.readouterr().err
    assert ("stopped" if code == 130 else "expected this, got that. To fix: do it") in words
    assert "Traceback" not in words


def test_the_command_to_run_again_is_the_one_that_was_typed_or_dvcs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/.venv/bin/fastdrive", "explain", "a b"])
    monkeypatch.setattr("__main__.__spec__", None)
    assert again() == "fastdrive explain 'a b'"
    monkeypatch.setenv("DVC_STAGE", "plan_routes@none")
    assert again() == "dvc repro plan_routes@none"


def start(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str, *words: str) -> None:
    monkeypatch.chdir(folder)
    for name in ("RANK", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=SimpleNamespace(name=module)))


def test_a_stage_that_ended_well_is_recorded_with_duration_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(monkeypatch, tmp_path, "stages.train_pruner", "recon")
    with caplog.at_level(logging.INFO), logged_stage():
        pass
    (record,) = map(json.loads, command.RECORDS.read_text().splitlines())
    assert (record["stage"], record["seconds"] < 1, record["memory_mb"] > 10) == ("train_pruner@recon", True, True)
    assert last_seconds() == {"train_pruner@recon": record["seconds"]}
    assert "done in 0 s" in caplog.text
    with pytest.raises(ValueError, match="no"), logged_stage():
        raise ValueError("no")
    assert len(command.RECORDS.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "words", "rank"),
    [
        ("stages.registry.register", ["recon"], ""),
        ("stages.generate_masks", ["--shard", "0/2"], ""),
        ("stages.train_pruner", ["recon"], "1"),
    ],
)
def test_other_commands_shards_and_ranks_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: list[str], rank: str
) -> None:
    start(monkeypatch, tmp_path, module, *words)
    monkeypatch.setenv("RANK", rank)
    with logged_stage():
        pass
    assert not command.RECORDS.exists()


def test_a_damaged_line_and_a_full_disk_cost_only_that_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(monkeypatch, tmp_path, "stages.make_world")
    with logged_stage():
        pass
    with open(command.RECORDS, "a") as file:
        file.write('{"stage": "cut\n')
    assert list(last_seconds()) == ["make_world"]
    monkeypatch.setattr(command, "RECORDS", Path("/dev/full"))
    with logged_stage():
        pass
    assert "no record" in caplog.text
