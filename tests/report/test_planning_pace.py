"""The table of paces, by numbers that one can check by eye; what a full run would take is called projected."""

from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import DataError
from stages.core.io import write_json
from stages.core.params import Grid, read_params
from stages.plan_routes import throughput, throughput_path
from stages.report.pace import COLUMNS, pace_rows, pace_section
from stages.report.page import Table, Words


def note(samples: int, seconds: float, **told: Any) -> dict[str, Any]:
    counts = {"images_encoded": samples, "scorings": 2}
    return {"tokens": ["t"] * samples, "seconds": seconds, "counts": counts, "questions": {}, "remarks": {}} | told


NOTES = [
    note(10, 2.0, remarks={"25": {"no tags": 1}}, questions={"from_file": 7, "built": 2, "built_without_can_bus": 1}),
    note(20, 3.0, remarks={"25": {"no tags": 2}, "75": {"no points": 1}}),
]


def test_shards_add_up_whoever_made_them() -> None:
    pace = throughput(NOTES, 3, 2)
    assert (pace["samples"], pace["seconds"], pace["shards"]) == (30, 5.0, 2)
    assert (pace["images_encoded"], pace["scorings"]) == (30, 4)
    assert (pace["samples_per_s"], pace["answers_per_s"]) == (6.0, 18.0)
    assert pace["remarks"] == {"25": {"no tags": 3}, "75": {"no points": 1}}
    assert pace["full_run"]["projected"]
    assert pace["full_run"]["hours"] == pytest.approx(6019 * 16 / 18 / 2 / 3600)


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    params = read_params(Path("params.yaml"))
    monkeypatch.chdir(tmp_path)
    short = {"pruners": ["none", "divprune"], "trained": [], "references": [], "bounds": ["blind_floor"]}
    return params.grid.model_copy(update=short)


def test_every_row_that_a_driver_planned_is_shown_and_the_projection_named(grid: Grid) -> None:
    for name in ("none", "divprune"):
        write_json(throughput_path(name), {"row": name, "driver": "impromptu", **throughput(NOTES, 3, 2)})
    section = pace_section(pace_rows(grid))
    words, table = section.blocks
    assert isinstance(words, Words)
    assert isinstance(table, Table)
    assert "projected, not measured: 6,019 samples in 16 cells" in words.text
    assert table.headings[-1] == "Full run, projected (h)"
    row = ["none", "30", "3", "30", "4", "6.00", "18.00", "2, bare 1", "4", "0.7"]
    assert [list(cells) for cells in table.groups[0].rows] == [row, ["divprune", *row[1:]]]
    assert len(row) == len(COLUMNS)


def test_a_pace_that_is_missing_names_its_stage(grid: Grid) -> None:
    with pytest.raises(DataError, match=r"results/throughput/none.json.*dvc repro plan_routes@none"):
        pace_rows(grid)
