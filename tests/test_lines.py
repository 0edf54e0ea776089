"""Lines of JSON in a file of bounded size."""

import errno
import logging
import os
from pathlib import Path

import pytest

from stages.core import lines


def test_what_was_appended_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "runs/a.jsonl"
    assert all(lines.append_line(path, {"n": n}) for n in range(3))
    assert lines.read_lines(path) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_line_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 0}\n{"n": ')
    lines.append_line(path, {"n": 2})
    assert lines.read_lines(path) == [{"n": 0}, {"n": 2}]


def test_the_file_never_outgrows_its_bound_and_one_older_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for n in range(100):
        lines.append_line(path, {"n": n}, most_bytes=100)
    assert path.stat().st_size <= 100
    found = [record["n"] for record in lines.read_lines(path)]
    assert found == list(range(found[0], 100))
    assert 10 <= len(found) <= 20


def test_a_full_disk_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.WARNING):
        assert [lines.append_line(tmp_path / "full.jsonl", {}) for _ in range(3)] == [False] * 3
    assert len(caplog.messages) == 1
    assert "No space left on device (the work goes on)" in caplog.messages[0]
