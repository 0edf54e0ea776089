"""The paper's Table 4 beside our counts: what is looked up and what is said of each row."""

import json
from typing import Any

import pytest

from stages.core.params import read_params
from stages.efficiency.accounts import account
from stages.efficiency.paper_table import COLUMNS, nearest, rows
from stages.efficiency.shapes import PAPER_MODEL, model_shape
from stages.planning.tables import to_markdown
from stages.pruning import base
from stages.report.paper import table_4

METHODS = ["none", "fastv", "sparsevlm", "vispruner", "divprune", "recon"]

PRINTED = table_4()


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    shape = model_shape(json.loads(PAPER_MODEL.read_text()))
    options = read_params(PAPER_MODEL.parent / "params" / "paper.yaml").pruners
    return {
        name: {
            "paper": account(shape, (57, 57), 100, [25, 75] if name != "none" else [], base.load(name, options[name]))
        }
        for name in METHODS
    }


def by_method(records: dict[str, Any]) -> dict[str, Any]:
    return {row["method"]: row for row in rows(records, PRINTED)}


def test_each_printed_figure_stands_beside_ours_with_and_without_the_tower_in_flop_and_mac(records):
    found = by_method(records)
    assert list(found) == [row["method"] for row in PRINTED]
    first = found["Impromptu-VLA"]
    assert (first["paper_tflops"], first["paper_prefill_ms"], first["paper_decode_ms"]) == (38.2, 187, 23)
    assert first["with_vision_tflops"] == pytest.approx(42.119, abs=1e-3)
    assert first["without_vision_tmac"] == pytest.approx(10.946, abs=1e-3)
    ours = found["FastDriveVLA"]
    assert ours["paper_ratio"] == pytest.approx(7.49, abs=0.01)
    assert ours["without_vision_ratio"] == pytest.approx(3.71, abs=0.01)


def test_no_accounting_gives_two_rows_of_the_paper_at_once(records):
    """38.2 / 3.6 is 10.6; the largest ratio anywhere is that of linear layers and attention without the tower."""
    full, kept = records["none"]["paper"]["rows"][0], records["divprune"]["paper"]["rows"][-1]
    pairs = list(zip(full["accountings"], kept["accountings"], strict=True))
    assert all({**a, "total": 0} == {**b, "total": 0} for a, b in pairs)
    assert max(a["total"] / b["total"] for a, b in pairs) < 4.2
    for a, b in pairs:
        assert abs(a["total"] / 38.2e12 - 1) > 0.05 or abs(b["total"] / 3.6e12 - 1) > 0.05


def test_the_first_row_is_nearest_to_flop_with_the_tower_and_a_pruned_one_to_mac_without(records):
    found = by_method(records)
    assert found["Impromptu-VLA"]["nearest"] == "FLOP, with vision, LLM attention not counted"
    assert found["VisPruner"]["nearest"] == "MAC, without vision, logits of all"
    assert nearest(2.0, [{"total": 1.1e12}, {"total": 3.5e12}])["total"] == 3.5e12  # 1.75 times is less than 1.8


def test_each_row_says_in_a_line_why(records):
    found = {name: row["why"] for name, row in by_method(records).items()}
    assert found["Impromptu-VLA"] == "out of reach without the tower's 20.2 FLOP: with it and no LLM attention 38.8"
    assert "1.5 above VisPruner for a pruner that costs 0.59 FLOP or 0.29 MAC" in found["FastDriveVLA"]
    assert "0.5 above VisPruner for 2 layers over all tokens, which cost 0.92 FLOP or 0.46 MAC" in found["FastV"]
    assert "for 3 layers" in found["SparseVLM"]
    assert "more than 4.09 times" in found["DivPrune"]


def test_a_method_that_was_not_counted_keeps_its_printed_figures(records):
    found = rows({name: records[name] for name in ("none", "recon")}, PRINTED)
    assert [row["paper_tflops"] for row in found] == [paper["tflops"] for paper in PRINTED]
    assert found[1]["with_vision_tflops"] is None
    table = to_markdown(found, COLUMNS)
    assert len(table.strip().splitlines()) == 2 + len(PRINTED)
