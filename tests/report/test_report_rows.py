"""Rows of the report's tables from hand-made records."""

import pytest

from stages.planning.tables import cells
from stages.report import rows as tables


def latency_record(ratios: list[int]) -> dict:
    keys = [str(ratio) for ratio in ratios]
    timings = {key: {"median_ms": 8.0 - int(key) / 25} for key in ["0", *keys]} | {"again": {"median_ms": 8.1}}
    speedups = {key: {"ratio": 1 + int(key) / 100, "low": 1.0, "high": 2.0} for key in keys}
    phase = {"timings": timings, "speedups": speedups | {"again": {"ratio": 0.99, "low": 0.9, "high": 1.1}}}
    return {"phases": dict.fromkeys(("choose", "prefill", "decode", "end_to_end"), phase)}


def test_latency_has_a_row_per_ratio_and_the_unpruned_row_is_the_second_measurement_of_itself():
    rows = tables.latency_rows({"none": latency_record([]), "recon": latency_record([25, 75])})
    assert [(row["method"], row["pruned_percent"]) for row in rows] == [("none", 0), ("recon", 25), ("recon", 75)]
    assert rows[0]["prefill_ratio"] == 0.99
    assert rows[2]["prefill_ms"] == 5.0
    assert cells(rows, tables.LATENCY_COLUMNS)[2][:4] == ["recon", "75", "5.00", "5.00"]


def test_summary_is_a_tree_of_rounded_numbers_without_absent_ones():
    row = {"method": "recon", "pruned_percent": 25, "n": 4, "l2_cm_avg": 12.34567, "collision_pct_avg": None}
    assert tables.summary([row]) == {"recon": {"pruned_25": {"l2_cm_avg": 12.3457, "n": 4}}}


def test_masks_without_truth_have_no_rows():
    assert tables.mask_rows({"images": {}}) == []


def test_mean_of_the_masks_comes_last():
    rows = tables.mask_rows({"iou": {"class": {"barrier": {"iou": 0.5}, "mean": {"iou": 0.6}, "road": {"iou": 0.7}}}})
    assert [row["name"] for row in rows] == ["barrier", "road", "mean"]


@pytest.mark.parametrize(
    "columns", [tables.SCORE_COLUMNS, tables.FLOPS_COLUMNS, tables.RECALL_COLUMNS, tables.MASK_COLUMNS]
)
def test_absent_values_are_dashes_in_every_table(columns):
    (line,) = cells([{}], columns)
    assert all(set(cell) <= set("–[], /()\n") for cell in line)
