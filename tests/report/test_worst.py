"""Which samples are the worst of a pruner."""

from typing import Any

from stages.report.worst import _cases, worst_rows


def row(token: str, l2_at_cm: float | None, percent: int = 25) -> dict[str, Any]:
    errors = {"l2_at_cm_1s": 1.0, "l2_at_cm_2s": 2.0, "l2_at_cm_3s": l2_at_cm}
    return {"token": token, "pruned_percent": percent, **errors}


SAMPLES = {
    ("recon", 25): [row("a", 100), row("b", 300), row("c", 200)],
    ("recon", 50): [row("a", 400, 50), row("b", 250, 50), row("c", 200, 50)],
}


def test_each_sample_stands_once_at_its_worst_ratio_worst_first() -> None:
    found = worst_rows(SAMPLES, "recon", [25, 50], 20)
    assert [(row["token"], row["pruned_percent"], row["l2_at_cm_3s"]) for row in found] == [
        ("a", 50, 400),
        ("b", 25, 300),
        ("c", 25, 200),
    ]


def test_only_as_many_as_asked_for() -> None:
    assert [row["token"] for row in worst_rows(SAMPLES, "recon", [25, 50], 1)] == ["a"]
    assert worst_rows(SAMPLES, "recon", [25, 50], 0) == []


def test_equal_errors_stand_in_the_order_of_their_tokens() -> None:
    samples = {("recon", 25): [row("b", 1), row("a", 1)]}
    assert [row["token"] for row in worst_rows(samples, "recon", [25], 2)] == ["a", "b"]


def test_a_sample_whose_future_ends_before_3_s_is_no_candidate() -> None:
    samples = {("recon", 25): [row("a", None), row("b", 1), row("a", None)]}
    assert [row["token"] for row in worst_rows(samples, "recon", [25], 5)] == ["b"]


def test_a_pruner_without_a_scored_sample_has_an_empty_list() -> None:
    assert worst_rows({("recon", 25): []}, "recon", [25], 5) == []
    assert _cases("recon", [], {}, {}).title == "recon: none scored"
