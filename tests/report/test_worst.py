"""Which samples are the worst of a pruner."""

from typing import Any

from stages.report.worst import worst_rows


def row(token: str, l2_at_cm: float, percent: int = 25) -> dict[str, Any]:
    return {"token": token, "pruned_percent": percent, "l2_at_cm_3s": l2_at_cm}


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
