"""The table of a GPU's goals: dashes until a card was measured, then a column for each."""

import json
from pathlib import Path
from typing import Any

from stages.planning.tables import cells
from stages.report.gpu import NOT_MEASURED, columns, gpu_rows, gpu_section, read_benchmarks
from stages.vla.bench.goals import GOALS

H200: dict[str, Any] = {
    "shape": "3b",
    "device": "cuda",
    "date": "2026-12-01",
    "machine": {"gpu": "NVIDIA H200", "torch": "2.11.0"},
    "goals": [],
    "sections": {"prefill": {"timings": {"graph 0": {"median_ms": 33.0}, "graph 75 + pruner": {"median_ms": 11.0}}}},
}


def test_without_a_record_every_goal_has_a_dash() -> None:
    shown = cells(gpu_rows([]), columns([]))
    assert len(shown) == len(GOALS)
    assert {row[2] for row in shown} == {"–"}
    assert list(columns([])) == ["Goal", "Asked", "GPU"]
    assert gpu_section([]).blocks[0].text == NOT_MEASURED


def test_a_record_fills_its_column_and_leaves_what_it_did_not_measure() -> None:
    slow = {**H200, "machine": {"gpu": "NVIDIA H100", "torch": "2.11.0"}, "sections": {}}
    shown = cells(gpu_rows([H200, slow]), columns([H200, slow]))
    assert list(columns([H200, slow]))[2:] == [
        "NVIDIA H200, torch 2.11.0, 2026-12-01",
        "NVIDIA H100, torch 2.11.0, 2026-12-01",
    ]
    assert shown[0] == ["prefill of 3,249 + 100 tokens", "<= 45 ms", "33.00 ms, met", "–"]
    assert shown[1][2:] == ["3.00 x, not met", "–"]
    assert shown[4][2:] == ["–", "–"]


def test_records_of_other_benchmarks_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "nvidia_h200-2026-12-01.json").write_text(json.dumps(H200))
    (tmp_path / "training_nvidia_h200.json").write_text(json.dumps({"rows": []}))
    assert read_benchmarks(tmp_path) == [H200]
    assert read_benchmarks(tmp_path / "nowhere") == []
