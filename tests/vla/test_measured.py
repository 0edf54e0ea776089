"""The record of a measured request: what is set side by side, on timings that one can check by eye."""

import pytest

from stages.efficiency.latency import Ceilings
from stages.vla.measured import Ratio, choosing, of_ceiling, ratio_of

FLOPS = {
    "vision": 1000, "watch": 0, "pruner": 50, "llm": 300, "lm_head_last": 20, "decode_token": 40
}  # fmt: skip


def phase(**ms: float) -> dict:
    return {"timings": {name: {"median_ms": value, "per_token_ms": value / 2} for name, value in ms.items()}}


def found(**vision: float) -> dict:
    return {
        "vision": phase(**vision),
        "choose": phase(**{"0": 0.1, "50": 2.0, "again": 0.1}),
        "prefill": phase(**{"0": 30.0, "50": 12.0, "again": 31.0}),
        "decode": phase(**{"0": 8.0, "50": 8.0, "again": 8.0}),
    }


def test_choosing_is_set_beside_what_it_saves_of_the_prefill() -> None:
    ratio = ratio_of(found(**{"0": 5.0, "again": 5.5}), "50", False, FLOPS)
    row = choosing(ratio, 30.0)
    assert (row["choose_ms"], row["watch_ms"], row["choose_flops"]) == (2, 0, 50)
    assert (row["prefill_saved_ms"], row["net_saved_ms"]) == (18, 16)


def test_a_choice_inside_the_model_is_not_counted_twice() -> None:
    ratio = ratio_of(found(**{"0": 5.0, "again": 5.5}), "50", True, FLOPS)
    row = choosing(ratio, 30.0)
    assert (row["prefill_saved_ms"], row["net_saved_ms"]) == (20, 18)  # of the 12 ms, 2 were the choice


def test_a_tower_that_is_watched_longer_is_part_of_the_price() -> None:
    ratio = ratio_of(found(**{"0": 5.0, "25": 9.0, "again": 5.5}), "50", False, FLOPS | {"watch": 30, "pruner": 80})
    row = choosing(ratio, 30.0)
    assert (row["watch_ms"], row["choose_flops"], row["net_saved_ms"]) == (4, 80, 12)
    assert ratio.vision_ms == 9


def test_each_phase_is_set_against_the_ceiling_that_bounds_it() -> None:
    ratio = Ratio(10.0, 0.0, 1.0, 4.0, 2.0, False, FLOPS)
    reached = of_ceiling(ratio, Ceilings("float32", matmul_flops_per_s=2e5, copy_bytes_per_s=1e6), token_bytes=500)
    assert reached == pytest.approx(
        {"vision_flops": 0.5, "prefill_flops": 0.4, "decode_flops": 0.1, "decode_bytes": 0.25}
    )
    inside = of_ceiling(Ratio(**{**vars(ratio), "inside": True}), Ceilings("float32", 2e5, 1e6), token_bytes=500)
    assert inside["prefill_flops"] == pytest.approx(370 / 0.004 / 2e5)
