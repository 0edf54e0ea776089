"""Tables of cost from numbers that one can subtract by eye: Table 4, latency, phases, the trade-off."""

import json
from pathlib import Path
from typing import Any

import pytest
from report.workspace import CONFIG, GRID
from transformers import Qwen2_5_VLConfig

from stages.core.params import read_params
from stages.efficiency.flops import PAPER_MODEL, account
from stages.pruning import base
from stages.report import costs, paper

METHODS = ["none", "fastv", "sparsevlm", "vispruner", "divprune", "recon"]
PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    methods = {"none": [], "row_prior": [25, 75], "divprune": [25, 75]}
    return {n: {"paper": account(CONFIG, GRID, 20, percents, base.load(n, {}))} for n, percents in methods.items()}


def test_table_4_stands_beside_our_counts_and_the_nearest_accounting(small: dict[str, Any]) -> None:
    config = Qwen2_5_VLConfig(**json.loads(PAPER_MODEL.read_text()))
    options = read_params(PAPER_MODEL.parent / "params" / "paper.yaml").pruners
    pruners = {name: base.load(name, options[name]) for name in METHODS}
    records = {
        name: {"paper": account(config, (57, 57), 100, [25, 75] if name != "none" else [], pruner)}
        for name, pruner in pruners.items()
    }
    rows = {row["method"]: row for row in paper.table_4(records)}
    first, ours = rows["Impromptu-VLA"], rows["FastDriveVLA"]
    assert (first["paper_tflops"], first["paper_prefill_ms"], first["paper_decode_ms"]) == (38.2, 187, 23)
    assert first["with_vision_tflops"] == pytest.approx(42.119, abs=1e-3)
    assert first["without_vision_tmac"] == pytest.approx(10.946, abs=1e-3)
    assert (ours["paper_ratio"], ours["without_vision_ratio"]) == pytest.approx((7.49, 3.71), abs=0.01)
    assert first["nearest"] == "FLOP, with vision, LLM attention not counted"
    assert rows["VisPruner"]["nearest"] == "MAC, without vision, logits of all"
    assert paper.nearest(2.0, [{"total": 1.1e12}, {"total": 3.5e12}])["total"] == 3.5e12  # 1.75 times is less than 1.8
    alone = paper.table_4({"none": small["none"]})
    assert [row["paper_tflops"] for row in alone][::5] == [38.2, 5.1]
    assert alone[1]["with_vision_tflops"] is None


def test_components_add_up_to_their_total(small: dict[str, Any]) -> None:
    rows = costs.flops_rows(small, "paper", 1e12)
    assert [(row["pruned_percent"], row["method"]) for row in rows] == [
        (0, "none"), (25, "row_prior"), (25, "divprune"), (75, "row_prior"), (75, "divprune"),
    ]  # fmt: skip
    assert rows[1]["pruner"] == 0 < rows[2]["pruner"]
    parts = ("pruner", "llm_linears", "llm_attention", "lm_head_last")
    assert rows[-1]["without_vision"] == pytest.approx(sum(rows[-1][name] for name in parts))
    assert rows[-1]["without_vision_ratio"] == pytest.approx(rows[0]["without_vision"] / rows[-1]["without_vision"])


@pytest.mark.parametrize(("first_layer", "where", "net_ms"), [(42, "before", 4), (84, "inside", 5)])
def test_the_net_is_the_prefills_saving_less_a_choice_that_is_not_in_it(
    first_layer: int, where: str, net_ms: float
) -> None:
    timing = {"median_ms": 10.0, "p10_ms": 9.0, "p90_ms": 11.0}
    speedups = {"50": {"ratio": 1.5, "low": 1.4, "high": 1.6}, "again": {"ratio": 0.99, "low": 0.9, "high": 1.1}}
    phase = {"timings": dict.fromkeys(("0", "50", "again"), timing), "speedups": speedups}
    choose = {
        "timings": dict.fromkeys(("0", "50", "again"), timing | {"median_ms": 1.0}),
        "peak_bytes": {"50": 2_500_000},
    }
    record = {"phases": dict.fromkeys(("prefill", "decode", "end_to_end"), phase) | {"choose": choose}}
    unpruned = {"phases": {n: p | {"timings": {"0": timing, "again": timing}} for n, p in record["phases"].items()}}
    counts = {"driver": {"rows": [{"percent": 50, "tokens_kept": 42, "tokens_by_layer": [first_layer, 42, 42]}]}}
    again, row = costs.latency_rows({"none": unpruned, "x": record}, {"x": counts})
    assert (again["method"], again["pruned_percent"], again["prefill_ratio"]) == ("none", 0, 0.99)
    assert (row["where"], row["prefill_ms"], row["net_ms"], row["choose_mb"]) == (where, 10, net_ms, 2.5)
    assert (row["net_ms_low"], row["net_ms_high"]) == pytest.approx((net_ms - 1, net_ms + 1))


def test_each_phase_has_its_time_and_its_share_of_the_ceiling_that_bounds_it() -> None:
    timing = {"median_ms": 4.0, "p10_ms": 3.9, "p90_ms": 4.4, "n": 9}
    phases = {
        "prefill": {"timings": {"0": timing, "75": timing | {"median_ms": 1.0}, "again": timing}, "aa_spread": 1.02},
        "preprocess": {"timings": {"0": timing, "again": timing}, "aa_spread": 1.5},
        "decode": {"timings": {"0": timing}, "aa_spread": 1.1},
    }
    ceiling = {"0": {"prefill_flops": 0.5, "decode_flops": 0.25, "decode_bytes": 0.2}, "75": {"prefill_flops": 0.125}}
    rows = costs.phase_rows({"phases": phases, "of_ceiling": ceiling})
    keys = ("phase", "pruned_percent", "median_ms", "of_products_pct", "of_copying_pct")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("preprocess", 0, 4.0, None, None),
        ("prefill", 0, 4.0, 50.0, None),
        ("decode", 0, 4.0, 25.0, 20.0),
        ("prefill", 75, 1.0, 12.5, None),
    ]


def flops(**by_percent: float) -> dict[str, Any]:
    rows = [{"percent": int(key[1:]), "flops": {"with_vision": value}} for key, value in by_percent.items()]
    return {"paper": {"rows": rows}, "driver": {"rows": rows}}


def timed(unpruned_ms: float, **ratios: float) -> dict[str, Any]:
    found = {k[1:]: {"ratio": r, "low": r / 2, "high": r * 2} for k, r in ratios.items()}
    return {"phases": {"end_to_end": {"timings": {"0": {"median_ms": unpruned_ms}}, "speedups": found}}}


def scored(method: str, percent: int, l2_cm: float) -> dict[str, Any]:
    ends = {f"{name}{end}": l2_cm for name in ("l2_cm_avg", "collision_pct_avg") for end in ("", "_low", "_high")}
    return {"method": method, "pruned_percent": percent, "n": 4, **ends}


SCORES = [scored("none", 0, 40), scored("recon", 50, 42), scored("fastv", 50, 50), scored("oracle", 50, 1)]
EFFICIENCY = {"none": flops(p0=4e12), "recon": flops(p0=4e12, p50=2e12), "fastv": flops(p0=4e12, p50=3e12)}
LATENCY = {"none": timed(10), "recon": timed(30, p50=2), "fastv": timed(20, p50=4)}
POINTS = costs.points(SCORES, EFFICIENCY, LATENCY)


def test_methods_share_one_clock_and_keep_their_own_speed_up() -> None:
    assert [(row["method"], row["ms"]) for row in POINTS] == [("none", 20), ("recon", 10), ("fastv", 5)]
    assert (POINTS[1]["ms_low"], POINTS[1]["ms_high"]) == (5, 20)
    assert [(row["tflops"], row["mflops"]) for row in POINTS] == [(4, 4e6), (2, 2e6), (3, 3e6)]
    assert [row["ms"] for row in costs.points(SCORES, EFFICIENCY, {})] == [None] * 3
