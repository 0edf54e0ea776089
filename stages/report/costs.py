"""Tables of cost: Table 4, latency by phase, accuracy against cost with its Pareto front, choosing, throughput. Pure.

In accuracy against cost, each method's milliseconds are the unpruned median of all records divided by its own speed-up,
so a method that was timed on a busier core is not slower by that.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stages.core.params import Params
from stages.report import paper
from stages.report.driving import UNPRUNED, difference
from stages.report.inputs import Cell, Inputs, Row, Samples
from stages.report.tables import Sheet

ABOUT = {"Method": "{method}", "Pruned (%)": "{pruned_percent}", "Tokens": "{tokens_kept}"}
FLOPS = {
    **ABOUT,
    "Vision": "{vision:.4g}",
    "Pruner": "{pruner:.4g}",
    "LLM linear": "{llm_linears:.4g}",
    "LLM attention": "{llm_attention:.4g}",
    "LM head": "{lm_head_last:.4g}",
    "LLM + pruner": "{without_vision:.4g}",
    "ratio": "{without_vision_ratio:.2f}",
    "causal": "{without_vision_causal:.4g}",
    "ratio (causal)": "{without_vision_causal_ratio:.2f}",
    "with vision": "{with_vision:.4g}",
    "ratio (with vision)": "{with_vision_ratio:.2f}",
}
TOTALS = ("without_vision", "without_vision_causal", "with_vision")
PARTS = ("vision", "pruner", "llm_linears", "llm_attention", "lm_head_last", *TOTALS)
COMPONENTS = {  # of efficiency.flops, in the order in which a request meets them
    "patch_embed": "Patch embedding",
    "vision_linears": "Vision linears",
    "vision_window_attention": "Vision attention, windows",
    "vision_full_attention": "Vision attention, full",
    "merger": "Merger",
    "pruner": "Choosing",
    "watch": "of it, watching the tower",
    "llm_linears": "LLM linears",
    "llm_attention": "LLM attention, full",
    "llm_attention_causal": "causal",
    "lm_head_last": "LM head, last",
    "lm_head_all": "all",
}
COMPONENT_COLUMNS = {**ABOUT, **{title: f"{{{name}:.4g}}" for name, title in COMPONENTS.items()}}
ACCOUNTINGS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Unit": "{unit}",
    "Vision": "{vision}",
    "LLM attention": "{attention}",
    "LM head": "{lm_head}",
    "Text tokens": "{prompt_tokens}",
    "Total (T)": "{total_t:.4g}",
    "unpruned / pruned": "{ratio:.3f}",
}
TIMED = {"prefill": "Prefill", "decode": "Decode", "end_to_end": "End to end"}
LATENCY = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Choose (ms)": "{choose_ms:.2f}",
    **{
        f"{title} | {what}": form
        for phase, title in TIMED.items()
        for what, form in (
            ("ms", f"{{{phase}_ms:.2f}}"),
            ("× [95 %]", f"{{{phase}_ratio:.2f}} [{{{phase}_low:.2f}}, {{{phase}_high:.2f}}]"),
        )
    },
}
PHASES = ("preprocess", "vision", "choose", "prefill", "decode", "end_to_end")  # as a request goes through them
PHASE_COLUMNS = {
    "Phase": "{phase}",
    "Pruned (%)": "{pruned_percent}",
    "Median (ms)": "{median_ms:.2f}",
    "p10": "{p10_ms:.2f}",
    "p90": "{p90_ms:.2f}",
    "A/A spread": "{aa_spread:.2f}",
    "Of matmul's ceiling (%)": "{of_products_pct:.1f}",
    "Of copying's (%)": "{of_copying_pct:.1f}",
}
COSTS = {
    "tflops": "TFLOPs until the first answer token, at the paper's shapes",
    "mflops": "MFLOPs until the first answer token, driver at hand",
    "ms": "ms for a whole answer, measured",
}
ERRORS = {"l2_cm_avg": "L2, mean of 1, 2, 3 s (cm)", "collision_pct_avg": "Collision, mean of 1, 2, 3 s (%)"}
TRADEOFF = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "TFLOPs, paper's shapes": "{tflops:.4g}",
    "MFLOPs, driver": "{mflops:.4g}",
    "Answer (ms) [95 %]": "{ms:.2f} [{ms_low:.2f}, {ms_high:.2f}]",
    "L2 avg. (cm) [95 %]": "{l2_cm_avg:.2f} [{l2_cm_avg_low:.2f}, {l2_cm_avg_high:.2f}]",
    "L2 avg. − unpruned [95 %]": "{l2_minus_none:+.2f} [{l2_minus_none_low:+.2f}, {l2_minus_none_high:+.2f}]",
    "Collision avg. (%) [95 %]": "{collision_pct_avg:.2f} [{collision_pct_avg_low:.2f}, {collision_pct_avg_high:.2f}]",
    "On the front": "{front}",
}
CHOOSING = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Chooses": "{where}",
    "Choose (ms) [p10, p90]": "{choose_ms:.3f} [{choose_p10_ms:.3f}, {choose_p90_ms:.3f}]",
    "Memory to choose (MB)": "{choose_mb:.2f}",
    "GFLOPs to choose, paper's shapes": "{choose_gflops:,.2f}",
    "memory, paper's shapes (MB)": "{paper_mb:,.1f}",
    "LLM saves, paper's shapes (GFLOPs)": "{saves_gflops:,.0f}",
    "Prefill saves (ms) [95 %]": "{prefill_ms:+.2f} [{prefill_low_ms:+.2f}, {prefill_high_ms:+.2f}]",
    "Net (ms) [95 %]": "{net_ms:+.2f} [{net_low_ms:+.2f}, {net_high_ms:+.2f}]",
    "Answer saves (ms) [95 %]": "{answer_ms:+.2f} [{answer_low_ms:+.2f}, {answer_high_ms:+.2f}]",
}
THROUGHPUT = {
    "Row": "{row}",
    "N": "{samples:,}",
    "Ratios": "{ratios}",
    "Images encoded": "{images_encoded:,}",
    "Batches scored": "{scorings:,}",
    "Samples/s": "{samples_per_s:.2f}",
    "Answers/s": "{answers_per_s:.2f}",
    "Questions made": "{made}",
    "Answers with a remark": "{remarked}",
    "Full run, projected (h)": "{hours:.1f}",
}


def tables(inputs: Inputs, scores: Sequence[Row], params: Params) -> dict[str, Sheet]:
    """Return all tables of cost by file name; `scores` are the rows of Table 1."""
    last = main_method(params)
    counts, record = inputs.efficiency[last]["paper"], inputs.latency[last]
    machine, ceilings = record["machine"], record["ceilings"]
    rounds = record["phases"]["prefill"]["timings"]["0"]["n"]
    load = [each["clocks"][when]["load_1_min"] for each in inputs.latency.values() for when in ("before", "after")]
    worst = max(abs(part["difference"]) for part in counts["checked"].values())
    components = "TFLOPs by component until the first answer token, Qwen2.5-VL-{} at the paper's grid."
    return {
        "table4": Sheet(
            "The paper's Table 4 and our counts at the same shapes (TFLOP: two per multiply-add, TMAC: one; without "
            "vision: language model and choice). For each printed figure the nearest of 24 ways of summing: no single "
            "one gives both 38.2 and 3.6 T.",
            paper.table_4(inputs.efficiency),
            paper.TABLE_4,
        ),
        "table4_flops": Sheet(
            f"TFLOPs until the first answer token at Qwen2.5-VL-3B's shapes, {counts['tokens']:,} visual and "
            f"{counts['prompt_tokens']} text tokens; torch's counter on the real modules differs by {100 * worst:.4f} "
            "% at most. Ratios are unpruned / pruned; causal: half of the decoder's attention.",
            flops_rows(inputs.efficiency, "paper", 1e12),
            FLOPS,
        ),
        "table4_components": Sheet(
            components.format("3B"), component_rows(inputs.efficiency, "paper"), COMPONENT_COLUMNS
        ),
        "table4_components_7b": Sheet(
            components.format("7B"), component_rows(inputs.efficiency, "paper_7b"), COMPONENT_COLUMNS
        ),
        "table4_accountings": Sheet("Every way of summing.", accounting_rows(inputs.efficiency, "paper"), ACCOUNTINGS),
        "table4_flops_driver": Sheet(
            f"MFLOPs of the driver at hand ({params.vla.name}).", flops_rows(inputs.efficiency, "driver", 1e6), FLOPS
        ),
        "table4_latency": Sheet(
            f"Measured on the driver at hand, batch 1 ({machine_name(machine)}): medians of {rounds} interleaved "
            "rounds; × = unpruned / pruned. The row none is one call measured twice: what this machine calls no "
            f"difference. Decode: {record['answer_tokens'] - 1} tokens. Unix load average meanwhile: {min(load):.1f} "
            f"to {max(load):.1f}.",
            latency_rows(inputs.latency),
            LATENCY,
        ),
        "table4_phases": Sheet(
            f"Where the time of {last} goes. A/A spread: by which factor the unpruned driver differs from itself. "
            f"Ceilings of the same run ({ceilings['dtype']}): {ceilings['matmul_flops_per_s'] / 1e9:.1f} GFLOP/s in "
            f"matrix products, {ceilings['copy_bytes_per_s'] / 1e9:.1f} GB/s in copying.",
            phase_rows(record),
            PHASE_COLUMNS,
        ),
        "tradeoff": Sheet(
            "FLOPs with the vision tower, until the first answer token; milliseconds of a whole answer. On the front: "
            "the costs for which no other row is as cheap and has a lower L2.",
            points(scores, inputs.efficiency, inputs.latency),
            TRADEOFF,
        ),
        "choosing": Sheet(
            "What it costs to choose tokens and what that saves, against the unpruned driver of the same rounds; above "
            "0 time is saved. Net: the prefill's saving less the cost of choosing, which a method inside the language "
            "model has paid there already. At the paper's shapes costs are counted, not measured.",
            choosing_rows(inputs.latency, inputs.efficiency),
            CHOOSING,
        ),
        "throughput": Sheet(
            "Planning of one worker, without loading the driver; an image is encoded and scored once for all ratios. A "
            "remark: an answer that is not as the driver was taught. The last column is projected from the pace.",
            [_pace_row(row) for row in inputs.paces],
            THROUGHPUT,
        ),
    }


def main_method(params: Params) -> str:
    """Return the pruner that stands for all where one is shown: the main trained one, where there is one."""
    return [*params.grid.pruners, *params.grid.trained[:1]][-1]


def machine_name(machine: Mapping[str, Any]) -> str:
    """Return CPU, threads and torch version in words."""
    return f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}"


def _pace_row(row: Row) -> Row:
    asked = row["questions"]
    made = f"{asked['built']}, bare {asked['built_without_can_bus']}" if asked else None
    remarked = sum(sum(found.values()) for found in row["remarks"].values())
    return {**row, "made": made, "remarked": remarked, "hours": row["full_run"]["hours"]}


# Table 4.


def _counted(efficiency: Mapping[str, Row], at: str) -> list[tuple[Row, Row]]:
    """Return identity and counts of each method and ratio at the shapes `at`; no pruning once, first."""
    found = [
        ({"method": name, "pruned_percent": row["percent"], "tokens_kept": row["tokens_kept"]}, row)
        for name, record in efficiency.items()
        for row in record[at]["rows"]
        if name == UNPRUNED or row["percent"]
    ]
    return sorted(found, key=lambda pair: pair[0]["pruned_percent"])


def flops_rows(efficiency: Mapping[str, Row], at: str, unit: float) -> list[Row]:
    """Return FLOPs in `unit` by method and ratio at the shapes `at` (`paper` or `driver`)."""
    return [
        about
        | {part: row["flops"][part] / unit for part in PARTS}
        | {f"{total}_ratio": row["ratio"][total] for total in TOTALS}
        for about, row in _counted(efficiency, at)
    ]


def component_rows(efficiency: Mapping[str, Row], at: str) -> list[Row]:
    """Return TFLOPs of each component by method and ratio."""
    return [about | {part: row["flops"][part] / 1e12 for part in COMPONENTS} for about, row in _counted(efficiency, at)]


def accounting_rows(efficiency: Mapping[str, Row], at: str) -> list[Row]:
    """Return every way of summing the components by method and ratio, in T, and unpruned / pruned in the same way."""
    first = efficiency[UNPRUNED][at]["rows"][0]["accountings"]
    return [
        about
        | {key: value for key, value in one.items() if key != "total"}
        | {"total_t": one["total"] / 1e12, "ratio": full["total"] / one["total"]}
        for about, row in _counted(efficiency, at)
        for one, full in zip(row["accountings"], first, strict=True)
    ]


def latency_rows(latency: Mapping[str, Row]) -> list[Row]:
    """Return median ms and speed-up with interval by method and ratio, against the unpruned run beside it.

    `none` stands for the second measurement of its own baseline.
    """
    rows = []
    for name, record in latency.items():
        ratios = [key for key in record["phases"]["prefill"]["timings"] if key not in ("0", "again")]
        for key in ratios or ["again"]:
            row: Row = {"method": name, "pruned_percent": 0 if key == "again" else int(key)}
            row["choose_ms"] = record["phases"]["choose"]["timings"][key]["median_ms"]
            for phase in TIMED:
                found = record["phases"][phase]["speedups"][key]
                row[f"{phase}_ms"] = record["phases"][phase]["timings"][key]["median_ms"]
                row |= {f"{phase}_{end}": found[end] for end in ("ratio", "low", "high")}
            rows.append(row)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def phase_rows(record: Mapping[str, Any]) -> list[Row]:
    """Return a row per phase and ratio of one method's latency; None where a ceiling says nothing of a phase."""
    reached = {"vision": "vision_flops", "prefill": "prefill_flops", "decode": "decode_flops"}
    rows: list[Row] = []
    for phase in (name for name in PHASES if name in record["phases"]):
        found = record["phases"][phase]
        for key, timing in ((key, timing) for key, timing in found["timings"].items() if key.isdigit()):
            parts = record["of_ceiling"].get(key, {})
            shares = {"of_products_pct": parts.get(reached.get(phase, ""))}
            shares["of_copying_pct"] = parts.get("decode_bytes") if phase == "decode" else None
            times = {name: timing[name] for name in ("median_ms", "p10_ms", "p90_ms")}
            percents = {name: None if value is None else 100 * value for name, value in shares.items()}
            about = {"phase": phase, "pruned_percent": int(key)}
            rows.append(about | times | {"aa_spread": found["aa_spread"]} | percents)
    return sorted(rows, key=lambda row: row["pruned_percent"])


# Accuracy against cost.


def points(scores: Sequence[Row], efficiency: Mapping[str, Row], latency: Mapping[str, Row]) -> list[Row]:
    """Return every method at every ratio with its errors, its costs, and `front`: the costs on whose front it lies.

    A cost that was not measured is None.
    """
    minus = [f"l2_minus_none{end}" for end in ("", "_low", "_high")]
    kept = ["method", "pruned_percent", "n", *(f"{e}{end}" for e in ERRORS for end in ("", "_low", "_high")), *minus]
    measured = _answer_ms(latency)
    rows: list[Row] = []
    for score in (score for score in scores if score["method"] in efficiency):
        cell, record = (score["method"], score["pruned_percent"]), efficiency[score["method"]]
        row: Row = {key: score.get(key) for key in kept}
        row |= {"tflops": _flops(record, "paper", cell[1], 1e12), "mflops": _flops(record, "driver", cell[1], 1e6)}
        rows.append(row | measured.get(cell, dict.fromkeys(MS)))
    fronts = {short: on_front(rows, c, "l2_cm_avg") for c, short in zip(COSTS, ("TFLOPs", "MFLOPs", "ms"), strict=True)}
    for row in rows:
        row["front"] = ", ".join(short for short, front in fronts.items() if any(row is each for each in front))
    return rows


MS = ("ms", "ms_low", "ms_high", "ms_differs")  # the last: told apart from the unpruned driver's, A/A included


def _flops(record: Row, at: str, percent: int, unit: float) -> float | None:
    return next((r["flops"]["with_vision"] / unit for r in record[at]["rows"] if r["percent"] == percent), None)


def _answer_ms(latency: Mapping[str, Row]) -> dict[Cell, Row]:
    """Return ms by method and ratio, with the interval of the speed-up that they come from."""
    phases = {name: record["phases"]["end_to_end"] for name, record in latency.items()}
    if not phases:
        return {}
    unpruned_ms = median(phase["timings"]["0"]["median_ms"] for phase in phases.values())
    found: dict[Cell, Row] = {}
    for name, phase in phases.items():
        for key, speedup in ((key, speedup) for key, speedup in phase["speedups"].items() if key.isdigit()):
            ends = {"ms": speedup["ratio"], "ms_low": speedup["high"], "ms_high": speedup["low"]}
            ms: Row = {end: unpruned_ms / ratio for end, ratio in ends.items()}
            found[name, int(key)] = ms | {"ms_differs": speedup["differs"]}
    return found | {(UNPRUNED, 0): dict.fromkeys(MS[:3], unpruned_ms) | {"ms_differs": None}}


def on_front(rows: Sequence[Row], cost: str, error: str) -> list[Row]:
    """Return the rows on the Pareto front of a cost and an error, cheapest first; rows without one are left out."""
    known = [row for row in rows if row[cost] is not None and row[error] is not None]
    front = pareto_front(*(np.array([row[name] for row in known], float) for name in (cost, error)))
    return sorted((row for row, on in zip(known, front, strict=True) if on), key=lambda row: (row[cost], row[error]))


def pareto_front(costs: Float[np.ndarray, " M"], errors: Float[np.ndarray, " M"]) -> Bool[np.ndarray, " M"]:
    """Return True where no other point is as good in both and better in one; lower is better."""
    cheaper, better = costs[:, None] >= costs, errors[:, None] >= errors  # [i, j]: j is as cheap, as good as i
    strictly = (costs[:, None] > costs) | (errors[:, None] > errors)
    return ~(cheaper & better & strictly).any(axis=1)


def advice(rows: Sequence[Mapping[str, Any]], samples: Samples, params: Params) -> Row | None:
    """Return the row with the lowest L2 within profile_efficiency.budget_ms; None without a budget.

    `alike`: rows that fit as well and are not told apart in L2. Without a row that fits, `budget_ms` alone.
    """
    budget_ms, drawn = params.profile_efficiency.budget_ms, params.score_plans
    if budget_ms is None:
        return None
    fits = [row for row in rows if row["ms"] is not None and row["ms"] <= budget_ms]
    best = min(
        (row for row in fits if row["l2_cm_avg"] is not None), key=lambda r: (r["l2_cm_avg"], r["ms"]), default=None
    )
    if best is None:
        return {"budget_ms": budget_ms}
    alike = []
    for row in (row for row in fits if row is not best):
        own, other = (samples[each["method"], each["pruned_percent"]] for each in (row, best))
        minus = difference(own, other, drawn.resamples, drawn.seed)
        if minus["n"] and minus["l2_low"] <= 0 <= minus["l2_high"]:
            alike.append(row)
    return dict(best) | {"budget_ms": budget_ms, "alike": ", ".join(map(name_of, alike))}


def advice_in_words(found: Row) -> str:
    """Return the recommendation as a sentence or two."""
    budget = f"Under a budget of {found['budget_ms']:g} ms for a whole answer (profile_efficiency.budget_ms)"
    if "method" not in found:
        return f"{budget} no method fits at any ratio."
    time = f"{found['ms']:.2f} ms [{found['ms_low']:.2f}, {found['ms_high']:.2f}]"
    error = f"L2 {found['l2_cm_avg']:.2f} cm [{found['l2_cm_avg_low']:.2f}, {found['l2_cm_avg_high']:.2f}]"
    unsure = "" if found["ms_high"] <= found["budget_ms"] else " The upper end of its time is above the budget."
    alike = f" Not told apart from it in L2, and within the budget: {found['alike']}." if found["alike"] else ""
    return f"{budget} the lowest L2 is that of {name_of(found)}: {time}, {error}.{unsure}{alike}"


def name_of(row: Mapping[str, Any]) -> str:
    """Return method and ratio in words."""
    return f"{row['method']} at {row['pruned_percent']} % pruned" if row["pruned_percent"] else "the unpruned driver"


# Choosing.

ENDS = ("", "_low", "_high", "_least", "_most")


def choosing_rows(latency: Mapping[str, Row], efficiency: Mapping[str, Row]) -> list[Row]:
    """Return a row per method and ratio by ascending ratio; memory is None where it was not measured."""
    rows = []
    for name, record in latency.items():
        phase = record["phases"]["choose"]
        for key in (key for key in phase["timings"] if key not in ("0", "again")):
            choose, inside = phase["timings"][key], _chooses_inside(efficiency[name], int(key))
            row: Row = {"method": name, "pruned_percent": int(key), "where": "inside" if inside else "before"}
            row |= {f"choose_{end}": choose.get(end) for end in ("p10_ms", "p90_ms")}
            row |= {"choose_ms": choose["median_ms"], "choose_mb": _mb(phase.get("peak_bytes", {}).get(key))}
            row |= _at_paper_shapes(efficiency[name], int(key))
            row |= _saved(record["phases"]["prefill"], key, "prefill")
            row |= _saved(record["phases"]["end_to_end"], key, "answer")
            on_top_ms = 0 if inside else row["choose_ms"]
            row |= {f"net{end}_ms": row[f"prefill{end}_ms"] - on_top_ms for end in ENDS}
            rows.append(row)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def _saved(phase: Row, key: str, name: str) -> Row:
    """Return unpruned − pruned in ms: the pruned median times (speed-up − 1), with the interval of the speed-up.

    `_least` and `_most` widen it to the A/A spread: 0 lies outside where latency.py says that the variant differs.
    """
    pruned_ms, found, spread = phase["timings"][key]["median_ms"], phase["speedups"][key], phase["aa_spread"]
    ratio, low, high = (found[end] for end in ("ratio", "low", "high"))
    speedups = (ratio, low, high, min(low, ratio / spread), max(high, ratio * spread))
    return {f"{name}{end}_ms": pruned_ms * (value - 1) for end, value in zip(ENDS, speedups, strict=True)}


def _chooses_inside(record: Row, percent: int) -> bool:
    """Return True where the first decoder layer of the driver still reads every token."""
    row = next((row for row in record["driver"]["rows"] if row["percent"] == percent), None)
    return bool(row and row["tokens_by_layer"][0] > row["tokens_kept"])


def _at_paper_shapes(record: Row, percent: int) -> Row:
    rows = {row["percent"]: row for row in record["paper"]["rows"]}
    row, full = rows[percent], rows[0]["flops"]["without_vision"]
    saved = full - (row["flops"]["without_vision"] - row["flops"]["pruner"])
    return {
        "choose_gflops": row["flops"]["pruner"] / 1e9,
        "paper_mb": _mb(row.get("choosing", {}).get("peak_bytes")),
        "saves_gflops": saved / 1e9,
    }


def _mb(peak_bytes: int | None) -> float | None:
    return None if peak_bytes is None else peak_bytes / 1e6
