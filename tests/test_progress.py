"""Progress off a terminal."""

import logging

import pytest

from stages import progress


def test_items_pass_through_and_a_line_tells_how_far(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    with caplog.at_level(logging.INFO):
        assert list(progress.progress(iter("ab"), 4, "letters", start=2)) == ["a", "b"]
    assert "progress letters 3/4 (75 %)" in caplog.messages[0]
    assert "progress letters 4/4 (100 %)" in caplog.messages[1]


def test_a_quick_run_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list(progress.progress(range(100), 100, "quick"))
    assert caplog.messages == []
