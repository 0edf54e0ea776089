"""What a stage says first and last, and the record that it leaves."""

import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_graph import PARAMS, STAGES

from stages.core import lines, progress
from stages.core.journal import records, telling
from stages.core.journal.graph import expanded

GRAPH = {stage.name: stage for stage in expanded(STAGES, PARAMS)}
WORLD = {"make_world": {"train_scenes": 2, "val_scenes": 1, "samples_per_scene": 10}}
SCENES = {"train_split": "world_train", "eval_split": "world_val"}
LOCK: dict[str, Any] = {"train_pruner@recon": {"params": {"params.yaml": {"train_pruner": {"steps": 240, "lr": 0.1}}}}}


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = PARAMS | WORLD | {"scenes": PARAMS["scenes"] | SCENES}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": LOCK}))
    for name in ("RANK", "DVC_STAGE", progress.STAGE, progress.WHY):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(progress, "_resumed", [])


def started(monkeypatch: pytest.MonkeyPatch, module: str, *words: str, dvc: str = "") -> None:
    monkeypatch.setattr(telling, "_module", lambda: module)
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.setenv("DVC_STAGE", dvc)


def test_a_stage_says_why_it_runs_and_what_comes_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started(monkeypatch, "stages.train_pruner", "recon")
    with caplog.at_level(logging.INFO), telling.telling():
        Path("models/recon").mkdir(parents=True)
        Path("models/recon/weights").write_bytes(bytes(1000))
        assert os.environ[progress.WHY] == "train_pruner.steps 240 -> 300"
    assert caplog.messages[0] == "train_pruner@recon: runs because train_pruner.steps 240 -> 300"
    last = "train_pruner@recon: done in 0 s; next: `dvc repro plan_trained@recon`, or `dvc repro` for all that is left"
    assert caplog.messages[-1] == last
    (kept,) = records.read_records()
    assert (kept.stage, kept.out_bytes, kept.resumed) == ("train_pruner@recon", 1000, False)
    assert kept.key_frames == {"train": 20, "eval": 10}
    assert kept.memory_mb > 10


def test_the_last_stage_says_which_page_to_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started(monkeypatch, "stages.make_report", dvc="make_report")
    with caplog.at_level(logging.INFO), telling.telling():
        Path("reports").mkdir()
        Path("reports/index.html").touch()
    assert caplog.messages[0] == "make_report: runs because it has not ended before"
    assert caplog.messages[-1].endswith("next: open reports/index.html")


def test_a_stage_that_fails_leaves_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, "stages.train_pruner", "recon")
    with pytest.raises(ValueError, match="broken"), telling.telling():
        raise ValueError("broken")
    assert records.read_records() == []


@pytest.mark.parametrize(
    ("words", "dvc", "module", "name"),
    [
        (["other"], "", "stages.train_pruner", "train_pruner@other"),
        ([], "train_pruner@recon", "stages.train_pruner", "train_pruner@recon"),
        ([], "", "stages.train_pruner", None),
        (["--shard", "1/2"], "", "stages.generate_masks", None),
        ([], "", "stages.generate_masks", "generate_masks"),
        (["recon"], "", "stages.registry.promote", None),
    ],
)
def test_which_stage_a_process_is(words: list[str], dvc: str, module: str, name: str | None) -> None:
    found = telling.stage_of(GRAPH, words, dvc, module)
    assert (found.name if found else None) == name


def test_a_checkout_without_a_graph_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dvc.yaml").unlink()
    started(monkeypatch, "stages.train_pruner", "recon")
    with telling.telling():
        pass
    assert not Path("runs").exists()


def test_records_of_another_version_are_left_out() -> None:
    lines.append_line(records.RECORDS, {"stage": "old"})
    kept = records.Record("a", 1.0, 2.0, 0.0, 0.0, 3, "m", 2, "now", False, {"train": 1}, {})
    records.keep(kept)
    assert [asdict(record) for record in records.read_records()] == [asdict(kept)]
