"""Components and accountings of Table 4 as rows, from counts that add up."""

from typing import Any

import pytest
from report_workspace import GRID, SHAPE

from stages.efficiency.accounts import account
from stages.pruning import base
from stages.report.table_four import COMPONENT_COLUMNS, PARTS, accounting_rows, component_rows


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    methods = {"none": [], "row_prior": [25, 75], "divprune": [25, 75]}
    return {
        name: {"paper": account(SHAPE, GRID, 20, percents, base.load(name, {}))} for name, percents in methods.items()
    }


def test_components_have_a_row_by_ratio_and_method_and_the_unpruned_one_first(records):
    rows = component_rows(records, "paper")
    assert [(row["pruned_percent"], row["method"]) for row in rows] == [
        (0, "none"), (25, "row_prior"), (25, "divprune"), (75, "row_prior"), (75, "divprune"),
    ]  # fmt: skip
    assert set(PARTS) < set(rows[0])
    assert len(COMPONENT_COLUMNS) == 3 + len(PARTS)
    assert rows[1]["merger"] == rows[0]["merger"] > 0
    assert rows[1]["pruner"] == 0 < rows[2]["pruner"]


def test_the_sum_of_components_is_the_accounting_of_that_name(records):
    component = component_rows(records, "paper")[-1]
    sums = [
        row for row in accounting_rows(records, "paper") if (row["method"], row["pruned_percent"]) == ("divprune", 75)
    ]
    assert len(sums) == 24
    (one,) = [
        row
        for row in sums
        if (row["unit"], row["vision"], row["attention"], row["lm_head"]) == ("mac", False, "full", "last")
    ]
    parts = ("pruner", "llm_linears", "llm_attention", "lm_head_last")
    assert one["total_t"] == pytest.approx(sum(component[name] for name in parts) / 2)


def test_a_ratio_is_that_of_the_unpruned_prompt_counted_alike(records):
    rows = accounting_rows(records, "paper")
    assert {row["ratio"] for row in rows if row["method"] == "none"} == {1.0}
    assert all(row["ratio"] > 1 for row in rows if row["method"] == "row_prior")
