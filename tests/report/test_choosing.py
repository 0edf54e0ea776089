"""What choosing costs beside what it saves, in milliseconds one can subtract by eye."""

from typing import Any

import pytest

from stages.efficiency.latency import Speedup, differs
from stages.planning.tables import cells
from stages.report.choosing import COLUMNS, choosing_rows, in_words, methods_at

PAPER = ((0, 20e9, 0), (50, 12e9, 1e9))  # prune ratio, FLOPs without vision, of them the pruner's


def latency(
    choose_ms: float, ratio: float, memory: dict[str, int] | None = None, aa_spread: float = 1.0
) -> dict[str, Any]:
    """At 50 % pruned the prefill takes 10 ms."""
    timing = {"median_ms": 10.0, "p10_ms": 9.0, "p90_ms": 11.0}
    speedup = {"ratio": ratio, "low": ratio - 0.1, "high": ratio + 0.1}
    phase = {
        "timings": {"0": timing, "50": timing, "again": timing},
        "speedups": {"50": speedup},
        "aa_spread": aa_spread,
    }
    choose = {"timings": {key: timing | {"median_ms": choose_ms} for key in ("0", "50", "again")}}
    return {"phases": {"choose": choose | ({"peak_bytes": memory} if memory else {}),
                       "prefill": phase, "end_to_end": phase}}  # fmt: skip


def efficiency(first_layer: int) -> dict[str, Any]:
    driver = [{"percent": 50, "tokens_kept": 42, "tokens_by_layer": [first_layer, 42, 42]}]
    flops = [{"percent": p, "flops": {"without_vision": all_, "pruner": pruner}} for p, all_, pruner in PAPER]
    flops[1]["choosing"] = {"peak_bytes": 21_000_000}
    return {"driver": {"rows": driver}, "paper": {"rows": flops}}


@pytest.mark.parametrize(("first_layer", "where", "net_ms"), [(42, "before", 4), (84, "inside", 5)])
def test_the_net_is_the_prefills_saving_less_a_choice_that_is_not_in_it(
    first_layer: int, where: str, net_ms: float
) -> None:
    (row,) = choosing_rows({"recon": latency(1.0, 1.5)}, {"recon": efficiency(first_layer)})
    assert (row["method"], row["pruned_percent"], row["where"]) == ("recon", 50, where)
    assert (row["prefill_ms"], row["net_ms"]) == (5, net_ms)
    assert (row["prefill_low_ms"], row["prefill_high_ms"]) == pytest.approx((4, 6))


def test_a_method_that_costs_more_than_it_saves_is_named() -> None:
    found = {"divprune": latency(8.0, 1.5), "open": latency(5.0, 1.5), "recon": latency(1.0, 1.5)}
    words = in_words(choosing_rows(found, dict.fromkeys(found, efficiency(42))))
    assert "more time than the shorter prefill saves, beyond interval and A/A spread, for divprune at 50 %." in words
    assert "The net saving is not told apart from 0 for open at 50 %." in words


def test_an_answer_that_is_slower_or_not_told_apart_is_named() -> None:
    found = {"slow": latency(0.0, 0.8), "same": latency(0.0, 1.05)}
    words = in_words(choosing_rows(found, dict.fromkeys(found, efficiency(42))))
    assert "slower than unpruned, beyond interval and A/A spread, for slow at 50 %." in words
    assert "not told apart from 0 for same at 50 %." in words


def test_a_difference_that_the_unpruned_driver_has_from_itself_is_none() -> None:
    """Its interval alone is [0.7, 0.9]; with the baseline up to 1.5 times itself that says nothing."""
    words = in_words(choosing_rows({"sparsevlm": latency(0.0, 0.8, aa_spread=1.5)}, {"sparsevlm": efficiency(84)}))
    assert words.count("for no method") == 2
    assert words.count("not told apart from 0 for any method.") == 2


@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95, 1.05, 1.2, 1.6])
@pytest.mark.parametrize("spread", [1.0, 1.3, 1.7])
def test_what_is_told_apart_is_what_the_profile_says_differs(ratio: float, spread: float) -> None:
    (row,) = choosing_rows({"recon": latency(0.0, ratio, aa_spread=spread)}, {"recon": efficiency(42)})
    apart = not row["answer_least_ms"] <= 0 <= row["answer_most_ms"]
    assert apart == differs(Speedup(ratio, ratio - 0.1, ratio + 0.1), spread)


def test_where_all_pays_off_it_is_said() -> None:
    rows = choosing_rows({"recon": latency(1.0, 1.5)}, {"recon": efficiency(42)})
    assert in_words(rows) == (
        "Choosing takes more time than the shorter prefill saves, beyond interval and A/A spread, for no method. "
        "The whole answer is slower than unpruned, beyond interval and A/A spread, for no method."
    )


def test_memory_stands_there_where_it_was_measured() -> None:
    found = {"recon": latency(1.0, 1.5, {"50": 2_500_000}), "fastv": latency(1.0, 1.5)}
    rows = choosing_rows(found, dict.fromkeys(found, efficiency(42)))
    at = list(COLUMNS).index("Memory to choose (MB)")
    assert [line[at] for line in cells(rows, COLUMNS)] == ["2.50", "–"]


def test_at_the_papers_shapes_the_choice_stands_beside_what_the_language_model_saves() -> None:
    (row,) = choosing_rows({"recon": latency(1.0, 1.5)}, {"recon": efficiency(42)})
    assert (row["choose_gflops"], row["saves_gflops"], row["paper_mb"]) == (1, 9, 21)


def test_a_method_is_named_once_with_its_ratios() -> None:
    cells = [("none", 0), ("recon", 25), ("fastv", 50), ("recon", 50), ("recon", 75)]
    rows = [{"method": name, "pruned_percent": percent} for name, percent in cells]
    assert methods_at(rows) == "none, recon at 25, 50 and 75 %, fastv at 50 %"
