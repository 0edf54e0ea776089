"""Tables of cost: Table 4, latency by phase, accuracy against cost with its Pareto front, throughput. Pure.

In accuracy against cost, each method's milliseconds are the unpruned median of all records divided by its own speed-up,
so a method that was timed on a busier core is not slower by that.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from stages.core.params import Params
from stages.report import paper
from stages.report.driving import METHOD, UNPRUNED
from stages.report.inputs import Inputs, Row
from stages.report.page import Sheet, interval

FLOPS = {
    **METHOD,
    "Tokens": "{tokens_kept}",
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
TIMED = {"prefill": "Prefill", "decode": "Decode", "end_to_end": "End to end"}
LATENCY = {
    **METHOD,
    "Chooses": "{where}",
    "Choose (ms) [p10, p90]": "{choose_ms:.3f} [{choose_p10_ms:.3f}, {choose_p90_ms:.3f}]",
    "Choose (MB)": "{choose_mb:.2f}",
    **{f"Median (ms) | {title}": f"{{{phase}_ms:.2f}}" for phase, title in TIMED.items()},
    **{f"unpruned / pruned [95 %] | {title}": interval(f"{phase}_ratio") for phase, title in TIMED.items()},
    "Saved in prefill, choosing paid (ms) [95 %]": interval("net_ms", "+.2f"),
}
PHASES = ("preprocess", "vision", "choose", "prefill", "decode", "end_to_end")  # as a request goes through them
REACHED = {"vision": "vision_flops", "prefill": "prefill_flops", "decode": "decode_flops"}  # share of matmul's ceiling
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
    **METHOD,
    "TFLOPs, paper's shapes": "{tflops:.4g}",
    "MFLOPs, driver": "{mflops:.4g}",
    "Answer (ms) [95 %]": interval("ms"),
    "L2 avg. (cm) [95 %]": interval("l2_cm_avg"),
    "L2 avg. − unpruned [95 %]": interval("l2_minus_none", "+.2f"),
    "Collision avg. (%) [95 %]": interval("collision_pct_avg"),
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
    efficiency = inputs.efficiency
    last = [*params.grid.pruners, *params.grid.trained[:1]][-1]  # stands for all where one is shown
    counts, record = efficiency[last]["paper"], inputs.latency[last]
    ceilings, machine = record["ceilings"], record["machine"]
    load = [each["clocks"][when]["load_1_min"] for each in inputs.latency.values() for when in ("before", "after")]
    worst = max(abs(part["difference"]) for part in counts["checked"].values())
    return {
        "table4": Sheet(
            "The paper's Table 4 and our counts at the same shapes (TFLOP: two per multiply-add, TMAC: one; without "
            "vision: language model and choice). For each printed figure the nearest of 24 ways of summing: no single "
            "one gives both 38.2 and 3.6 T. The first is out of reach without the vision tower; the pruned ones are "
            "less than the tower alone. Intervals are not printed there.",
            paper.table_4(efficiency),
            paper.TABLE_4,
        ),
        "table4_flops": Sheet(
            f"TFLOPs until the first answer token at Qwen2.5-VL-3B's shapes, {counts['tokens']:,} visual and "
            f"{counts['prompt_tokens']} text tokens; torch's counter on the real modules differs by {100 * worst:.4f} "
            "% at most. Ratios are unpruned / pruned; causal: half of the decoder's attention. The CSV has all parts.",
            flops_rows(efficiency, "paper", 1e12),
            FLOPS,
        ),
        "table4_flops_7b": Sheet(
            "The same at Qwen2.5-VL-7B's shapes.", flops_rows(efficiency, "paper_7b", 1e12), FLOPS
        ),
        "table4_flops_driver": Sheet(
            f"MFLOPs of the driver at hand ({params.vla.name}).", flops_rows(efficiency, "driver", 1e6), FLOPS
        ),
        "table4_latency": Sheet(
            f"Measured on the driver at hand, batch 1 ({machine['cpu']}, {machine['threads']} thread(s), torch "
            f"{machine['torch']}): medians of "
            f"{record['phases']['prefill']['timings']['0']['n']} interleaved rounds. The row "
            "none is one call measured twice: what this machine calls no difference. Decode: "
            f"{record['answer_tokens'] - 1} tokens. Unix load average meanwhile: {min(load):.1f} to {max(load):.1f}.",
            latency_rows(inputs.latency, efficiency),
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
            "FLOPs with the vision tower, until the first answer token; milliseconds of a whole answer.",
            points(scores, efficiency, inputs.latency),
            TRADEOFF,
        ),
        "throughput": Sheet(
            "Planning of one worker, without loading the driver; an image is encoded and scored once for all ratios. A "
            "remark: an answer that is not as the driver was taught. The last column is projected from the pace.",
            [_pace_row(row) for row in inputs.paces],
            THROUGHPUT,
        ),
    }


def _pace_row(row: Row) -> Row:
    asked = row["questions"]
    made = f"{asked['built']}, bare {asked['built_without_can_bus']}" if asked else None
    remarked = sum(sum(found.values()) for found in row["remarks"].values())
    return {**row, "made": made, "remarked": remarked, "hours": row["full_run"]["hours"]}


def flops_rows(efficiency: Mapping[str, Row], at: str, unit: float) -> list[Row]:
    """Return FLOPs of components and totals in `unit`, and ratios, at the shapes `at`: paper, paper_7b or driver.

    By method and ratio; no pruning once, first.
    """
    rows = [
        {"method": name, "pruned_percent": row["percent"], "tokens_kept": row["tokens_kept"]}
        | {part: value / unit for part, value in row["flops"].items()}
        | {f"{total}_ratio": ratio for total, ratio in row["ratio"].items()}
        for name, record in efficiency.items()
        for row in record[at]["rows"]
        if name == UNPRUNED or row["percent"]
    ]
    return sorted(rows, key=lambda row: row["pruned_percent"])


def latency_rows(latency: Mapping[str, Row], efficiency: Mapping[str, Row]) -> list[Row]:
    """Return median ms and speed-up with interval by method and ratio, against the unpruned run beside it.

    `none` stands for the second measurement of its own baseline. Net is the prefill's saving less the time to choose,
    which a method that chooses inside the language model has paid there already.
    """
    rows = []
    for name, record in latency.items():
        phases, ends = record["phases"], {"": "ratio", "_low": "low", "_high": "high"}
        for key in [key for key in phases["prefill"]["timings"] if key not in ("0", "again")] or ["again"]:
            row: Row = {"method": name, "pruned_percent": 0 if key == "again" else int(key)}
            choose, peak_bytes = phases["choose"]["timings"][key], phases["choose"].get("peak_bytes", {}).get(key)
            row |= {"choose_ms": choose["median_ms"], "choose_mb": peak_bytes and peak_bytes / 1e6}
            row |= {f"choose_{end}": choose.get(end) for end in ("p10_ms", "p90_ms")}
            for phase in TIMED:
                row[f"{phase}_ms"] = phases[phase]["timings"][key]["median_ms"]
                row |= {f"{phase}_ratio{end}": phases[phase]["speedups"][key][at] for end, at in ends.items()}
            if key != "again":
                counts = _row_at(efficiency[name], "driver", int(key))
                inside = counts["tokens_by_layer"][0] > counts["tokens_kept"]  # the first layer still reads every token
                row["where"] = "inside" if inside else "before"
                paid_ms = 0 if inside else row["choose_ms"]
                for end in ends:
                    row[f"net_ms{end}"] = row["prefill_ms"] * (row[f"prefill_ratio{end}"] - 1) - paid_ms
            rows.append(row)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def phase_rows(record: Mapping[str, Any]) -> list[Row]:
    """Return a row per phase and ratio of one method's latency; None where a ceiling says nothing of a phase."""
    rows: list[Row] = []
    for phase in (name for name in PHASES if name in record["phases"]):
        found = record["phases"][phase]
        for key in (key for key in found["timings"] if key.isdigit()):
            shares = {name: 100 * share for name, share in record["of_ceiling"].get(key, {}).items()}
            row = {"phase": phase, "pruned_percent": int(key), **found["timings"][key], "aa_spread": found["aa_spread"]}
            row["of_products_pct"] = shares.get(REACHED.get(phase, ""))
            row["of_copying_pct"] = shares.get("decode_bytes") if phase == "decode" else None
            rows.append(row)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def points(scores: Sequence[Row], efficiency: Mapping[str, Row], latency: Mapping[str, Row]) -> list[Row]:
    """Return every method at every ratio with its errors and its costs; a cost that was not measured is None."""
    ends = {"": "ratio", "_low": "high", "_high": "low"}  # of a time, by those of its speed-up
    kept = ["method", "pruned_percent", "n", *(f"{key}{end}" for key in (*ERRORS, "l2_minus_none") for end in ends)]
    phases = {name: record["phases"]["end_to_end"] for name, record in latency.items()}
    unpruned_ms = median(phase["timings"]["0"]["median_ms"] for phase in phases.values()) if phases else 0.0
    speedups = {
        (name, int(key)): one for name in phases for key, one in phases[name]["speedups"].items() if key != "again"
    }
    speedups |= {(UNPRUNED, 0): dict.fromkeys(ends.values(), 1.0)} if phases else {}
    rows: list[Row] = []
    for score in (score for score in scores if score["method"] in efficiency):
        row: Row = {key: score.get(key) for key in kept}
        for cost, at, unit in (("tflops", "paper", 1e12), ("mflops", "driver", 1e6)):
            counts = _row_at(efficiency[score["method"]], at, score["pruned_percent"])
            row[cost] = counts["flops"]["with_vision"] / unit if counts else None
        speedup = speedups.get((score["method"], score["pruned_percent"]))
        rows.append(row | {f"ms{end}": speedup and unpruned_ms / speedup[of] for end, of in ends.items()})
    return rows


def _row_at(record: Row, at: str, percent: int) -> Row:
    found: Row = next((row for row in record[at]["rows"] if row["percent"] == percent), {})
    return found
