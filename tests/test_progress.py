"""Progress off a terminal, on one, and as lines of JSON."""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from stages.core import progress

Log = pytest.LogCaptureFixture
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _in_a_stage(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_resumed", [])
    monkeypatch.delenv(progress.WHY, raising=False)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(progress.STAGE, "train_pruner@recon")


def test_items_pass_through_and_a_line_tells_how_far(monkeypatch: Patch, caplog: Log) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    with caplog.at_level(logging.INFO):
        assert list(progress.progress(iter("ab"), 4, "letters", start=2)) == ["a", "b"]
    assert caplog.messages[0].startswith("letters: resumed at 2 of 4 (")
    assert "progress letters 3/4 (75 %)" in caplog.messages[1]
    assert "progress letters 4/4 (100 %)" in caplog.messages[2]
    assert progress.resumed()


def test_a_quick_run_says_nothing(caplog: Log) -> None:
    with caplog.at_level(logging.INFO):
        list(progress.progress(range(100), 100, "quick"))
    assert caplog.messages == []
    assert not Path("runs").exists()


def test_a_fresh_run_says_why(monkeypatch: Patch, caplog: Log) -> None:
    monkeypatch.setenv(progress.WHY, "train_pruner.steps 240 -> 300")
    with caplog.at_level(logging.INFO):
        list(progress.progress(range(300), 300, "train_pruner", 0))
    assert caplog.messages == ["train_pruner: fresh, 300 to do (train_pruner.steps 240 -> 300)"]
    assert not progress.resumed()


def test_a_line_of_json_has_rate_eta_loss_memory_and_wait(monkeypatch: Patch) -> None:
    """Two of four steps in 8 s of the monotonic clock, whatever the wall clock does: 0.25/s, 8 s to go."""
    clock = [0.0]
    monkeypatch.setattr(progress, "SILENT_S", 8.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    for _ in progress.progress(range(2), 4, "train_pruner"):
        clock[0] += 4.0
        progress.note({"loss": 0.5, "data_wait_share": 0.25, "images": 60, "held_out_loss": 9.0})
    (line,) = Path("runs/progress/train_pruner.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["stage"], told["cell"], told["step"], told["total"]) == ("train_pruner", "recon", 2, 4)
    assert (told["rate_per_s"], told["eta_s"], told["loss"], told["data_wait_share"]) == (0.25, 8.0, 0.5, 0.25)
    assert told["memory_mb"] > 1
    assert "progress train_pruner 2/4 (50 %) 0.25/s eta 8 s, loss 0.5000, data wait 25%" in progress.line(told)


def test_a_loss_that_is_none_is_not_shown() -> None:
    for _ in progress.progress(range(1), 1, "steps"):
        progress.note({"loss": float("nan")})
        assert progress._active[-1].numbers == {}


def test_no_line_of_json_outside_a_stage_nor_of_a_second_rank(monkeypatch: Patch) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    monkeypatch.setenv("RANK", "1")
    list(progress.progress(range(2), 2, "steps"))
    monkeypatch.delenv("RANK")
    monkeypatch.delenv(progress.STAGE)
    list(progress.progress(range(2), 2, "steps"))
    assert not Path("runs").exists()


def test_a_loop_that_ends_early_leaves_no_trace(monkeypatch: Patch) -> None:
    loop = progress.progress(range(9), 9, "nine")
    next(loop)
    loop.close()
    assert progress._active == []


def everything(file: int) -> str:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(file, 4096):
            found += part
    return found.decode()


def test_bars_on_a_terminal_nest_and_log_lines_stand_above_them(monkeypatch: Patch) -> None:
    import pty

    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        handler = progress.Stderr()
        log = logging.Logger("bars")
        log.addHandler(handler)
        for _ in progress.progress(range(2), 2, "outer"):
            for _ in progress.progress(range(3), 3, "inner"):
                log.warning("a line between")
        assert progress.Bar._display is None
        terminal.flush()
        shown = everything(ours)
    os.close(ours)
    assert "outer" in shown
    assert "inner" in shown
    assert "2/2" in shown
    assert shown.count("a line between") == 6
