"""How a stage starts and ends."""

import pytest

from stages.core.command import again, cell, run
from stages.core.errors import DataError, MachineError, ParamsError


def test_the_cell_is_the_argument_or_what_dvc_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stage", "divprune"])
    assert cell(["none", "divprune"]) == "divprune"
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setenv("DVC_STAGE", "plan_routes@none")
    assert cell(["none", "divprune"]) == "none"


def test_an_unknown_cell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stage", "other"])
    with pytest.raises(ParamsError, match="one of none, divprune"):
        cell(["none", "divprune"])


@pytest.mark.parametrize(("kind", "code"), [(ParamsError, 2), (DataError, 3), (MachineError, 4)])
def test_a_user_error_ends_with_its_class_and_no_traceback(
    kind: type[DataError], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def main(params: object) -> None:
        raise kind(expected="this", got="that", fix="do it")

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == code
    words = capfd.readouterr().err
    assert "expected this, got that. To fix: do it" in words
    assert "Traceback" not in words


def test_the_command_to_run_again_is_dvcs_where_dvc_started_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "plan_routes@none")
    assert again() == "dvc repro plan_routes@none"


def test_the_command_to_run_again_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/.venv/bin/fastdrive", "explain", "a b"])
    monkeypatch.setattr("__main__.__spec__", None)
    assert again() == "fastdrive explain 'a b'"


def test_ctrl_c_ends_with_130() -> None:
    def main(params: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 130
