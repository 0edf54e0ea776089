"""Rows of the driver's own examination."""

from stages.report.held_out import rows_of

DRIVER = {
    "sees": {"none": {"n": 9, "l2_m": 1.0}},
    "pruned": {"inverse_25": {"l2_m": 2.0}, "inverse_75": {"l2_m": 9.0}, "oracle_25": {"l2_m": 1.0}},
}


def test_a_name_with_a_ratio_is_parted_and_sorted_best_first_within_a_ratio() -> None:
    rows = rows_of(DRIVER, "pruned")
    assert [(r["name"], r["pruned_percent"]) for r in rows] == [("oracle", 25), ("inverse", 25), ("inverse", 75)]


def test_other_tables_keep_their_order_and_a_missing_one_has_no_rows() -> None:
    assert rows_of(DRIVER, "sees") == [{"name": "none", "n": 9, "l2_m": 1.0}]
    assert rows_of({}, "events") == []
