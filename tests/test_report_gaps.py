"""The report of a pipeline with gaps: nothing scored in a row, key frames without a 3 s future."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from report_workspace import write_workspace

from stages import make_report
from stages.core.io import read_json, read_parquet, write_json, write_parquet
from stages.core.params import Params, read_params
from stages.planning.scoring import SAMPLE_COLUMNS, totals

SCORES = Path("results/scores")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of a small grid; its finished pipeline is the working directory."""
    whole = read_params(Path(__file__).parents[1] / "params.yaml")
    few = {"pruners": ["none", "random_keep", "divprune"], "trained": ["recon"], "percents": [50]}
    shown = {"overlay_methods": ["recon"], "worst_samples": 2, "overlay_frames": 1}
    grid, report = whole.grid.model_copy(update=few), whole.make_report.model_copy(update=shown)
    small = whole.model_copy(update={"grid": grid, "make_report": report})
    monkeypatch.chdir(tmp_path)
    scenes = write_workspace(tmp_path, small)
    monkeypatch.setattr(make_report, "open_scenes", lambda root, version: scenes)
    monkeypatch.setattr(make_report, "champion_line", lambda params, results: None)
    return small


def test_a_row_of_which_nothing_was_scored_and_samples_without_a_3_s_future_are_no_obstacle(params: Params) -> None:
    schema = pa.schema(list(SAMPLE_COLUMNS.items()))
    for name in params.grid.names:
        rows = read_parquet(SCORES / f"{name}.parquet", "make").to_pylist()
        rows = [row | {"l2_at_cm_3s": None} if row["token"] == "sample-03" else row for row in rows]
        left = [] if name == "divprune" else rows
        write_parquet(SCORES / f"{name}.parquet", pa.Table.from_pylist(left, schema=schema))
    scores = read_json(SCORES / "divprune.json", "make")
    rows = [row | totals([], 50, 0) for row in scores["rows"]]
    write_json(SCORES / "divprune.json", {**scores, "rows": rows})
    make_report.main(params)
    assert "divprune: none scored" in Path("reports/index.html").read_text()
    (line,) = re.findall(r".*divprune \| 50 .*", Path("reports/tables/table1.md").read_text())
    assert "| 42 / 84 | 0 | 0 | – | – | – |" in line


def test_without_truth_and_training_their_tables_are_left_out(params: Params) -> None:
    Path("metrics/masks.json").write_text("{}")
    for path in SCORES.glob("*.json"):
        path.write_text(re.sub(r'("(foreground|object)_(recall|auc)\w*"): [\d.]+', r"\1: null", path.read_text()))
    shown = params.make_report.model_copy(update={"overlay_methods": ["divprune"]})
    grid = params.grid.model_copy(update={"trained": []})
    make_report.main(params.model_copy(update={"grid": grid, "make_report": shown}))
    page = Path("reports/index.html").read_text()
    assert not [words for words in ("reconstructions", "Table 2", "Table 3", "outscores") if words in page]
    assert {path.stem for path in Path("reports/tables").iterdir()} == {
        "driver",
        "driver_events",
        "driver_pool",
        "driver_pool_events",
        "ruler",
        "ruler_pool",
        "scenarios",
        "table1",
        "table1_differences",
        "table1_intervals",
        "tradeoff",
        "choosing",
        "table4",
        *(f"table4_{of}" for of in ("accountings", "components", "components_7b", "flops", "flops_driver")),
        *(f"table4_{of}" for of in ("latency", "phases")),
    }
