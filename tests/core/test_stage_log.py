"""The record that a finished stage leaves."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.core import stage_log
from stages.core.stage_log import logged_stage, read_records


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
    (record,) = read_records()
    assert (record.stage, record.seconds < 1, record.memory_mb > 10) == ("train_pruner@recon", True, True)
    assert "done in 0 s" in caplog.text
    with pytest.raises(ValueError, match="no"), logged_stage():
        raise ValueError("no")
    assert len(read_records()) == 1


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
    assert not stage_log.RECORDS.exists()


def test_a_damaged_line_and_a_full_disk_cost_only_that_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(monkeypatch, tmp_path, "stages.make_world")
    with logged_stage():
        pass
    with open(stage_log.RECORDS, "a") as file:
        file.write('{"stage": "cut\n')
    assert [record.stage for record in read_records()] == ["make_world"]
    monkeypatch.setattr(stage_log, "RECORDS", Path("/dev/full"))
    with logged_stage():
        pass
    assert "no record" in caplog.text
