"""Progress off a terminal and on one."""

import contextlib
import logging
import os
import sys

import pytest
from tqdm.contrib.logging import logging_redirect_tqdm

from stages.core import progress

Log = pytest.LogCaptureFixture
Patch = pytest.MonkeyPatch


def test_items_pass_through_and_lines_show_how_far(monkeypatch: Patch, caplog: Log) -> None:
    """Two of four steps in 8 s of the monotonic clock, whatever the wall clock does: 0.25/s, 8 s to go."""
    clock = [0.0]
    monkeypatch.setattr(progress, "SILENT_S", 8.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO):
        for _ in progress.progress(range(2), 4, "steps"):
            clock[0] += 4.0
            progress.note({"train/loss": 0.5, "data_wait_share": 0.25, "images": 60, "held_out_loss": 9.0})
    assert caplog.messages == ["progress steps 2/4 (50 %) 0.25/s eta 8 s, loss 0.5000, data wait 25%"]


def test_resumed_work_starts_where_it_was(caplog: Log) -> None:
    with caplog.at_level(logging.INFO):
        assert list(progress.progress(iter("ab"), 4, "letters", start=2)) == ["a", "b"]
        list(progress.progress(range(300), 300, "numbers", start=0))
    assert [message.split()[1] for message in caplog.messages] == ["resumed", "fresh,"]


def test_a_quick_run_logs_nothing_and_a_loop_that_ends_early_leaves_no_trace(caplog: Log) -> None:
    with caplog.at_level(logging.INFO):
        loop = progress.progress(range(9), 9, "nine")
        next(loop)
        progress.note({"loss": float("nan")})
        assert progress._active[-1] == {}
        loop.close()
    assert (caplog.messages, progress._active) == ([], [])


def test_bars_on_a_terminal_nest_and_log_lines_stand_above_them(monkeypatch: Patch) -> None:
    import pty

    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    shown = b""
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        log = logging.Logger("bars")
        log.addHandler(logging.StreamHandler(terminal))
        with logging_redirect_tqdm([log]):  # as a stage does
            for _ in progress.progress(range(2), 2, "outer"):
                for _ in progress.progress(range(3), 3, "inner"):
                    log.warning("a line between")
        terminal.flush()
        with contextlib.suppress(BlockingIOError):
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    text = shown.decode()
    assert all(words in text for words in ("outer", "inner", "2/2"))
    assert text.count("a line between") == 6
