"""The report's tables as flat rows of numbers, and how a cell of each is printed. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.planning.tables import table_1

Row = dict[str, Any]

# Table 4 of the paper as printed (3,249 tokens unpruned, 812 kept): method, tokens, TFLOPs, prefill and decode in ms.
PAPER_TABLE_4 = [
    {"method": method, "tokens": tokens, "tflops": tflops, "prefill_ms": prefill, "decode_ms": decode}
    for method, tokens, tflops, prefill, decode in (
        ("Impromptu-VLA", 3249, 38.2, 187, 23),
        ("FastV", 812, 4.1, 49, 21),
        ("SparseVLM", 812, 4.2, 55, 19),
        ("VisPruner", 812, 3.6, 43, 18),
        ("DivPrune", 812, 3.6, 43, 18),
        ("FastDriveVLA", 812, 5.1, 51, 18),
    )
]
PAPER_COLUMNS = {
    "Method": "{method}",
    "Tokens": "{tokens}",
    "TFLOPs": "{tflops}",
    "Prefill (ms)": "{prefill_ms}",
    "Decode (ms)": "{decode_ms}",
}

# Tables 2 and 3 as printed, both at 50 % pruned: L2 in cm, rates in %; 1, 2, 3 s, average, Rel. of each.
_PRINTED = [f"{name}_{end}" for name in ("l2", "collision", "intersection") for end in ("1s", "2s", "3s", "avg", "rel")]
_OURS = (14.08, 28.65, 53.57, 32.10, 99.1, 0.00, 0.15, 0.60, 0.25, 97.3, 0.55, 2.49, 5.78, 2.94, 95.1)
PAPER_TABLE_2 = [
    {"method": method, "pixels": pixels, "adversarial": adversarial, **dict(zip(_PRINTED, values, strict=True))}
    for method, pixels, adversarial, values in (
        ("mask prediction", "no", "yes",
         (14.11, 28.82, 53.78, 32.24, 98.7, 0.00, 0.18, 0.70, 0.29, 83.0, 0.59, 2.55, 5.82, 2.99, 93.6)),
        ("foreground reconstruction only", "yes", "no",
         (14.14, 28.76, 53.66, 32.19, 98.9, 0.00, 0.17, 0.67, 0.28, 86.9, 0.58, 2.59, 5.84, 3.00, 93.1)),
        ("FastDriveVLA", "yes", "yes", _OURS),
    )
]  # fmt: skip
PAPER_TABLE_3 = [
    {"method": method, **dict(zip(_PRINTED, values, strict=True))}
    for method, values in (
        ("Gt-mask+Text-attn",
         (14.07, 28.71, 53.70, 32.16, 99.0, 0.00, 0.16, 0.63, 0.26, 92.4, 0.53, 2.50, 5.82, 2.95, 94.8)),
        ("Text-attn",
         (14.15, 29.01, 53.89, 32.35, 98.4, 0.00, 0.19, 0.72, 0.30, 80.2, 0.60, 2.63, 5.85, 3.03, 92.4)),
        ("FastDriveVLA", _OURS),
    )
]  # fmt: skip
TRAINED_FOR = {"Pixel rec.": "{pixels}", "Adv.": "{adversarial}"}
PRINTED_COLUMNS = {
    f"{title} {what}": f"{{{name}_{end}:{'.1f' if end == 'rel' else '.2f'}}}"
    for title, name in (("L2", "l2"), ("Collision", "collision"), ("Intersection", "intersection"))
    for what, end in (("1 s", "1s"), ("2 s", "2s"), ("3 s", "3s"), ("avg.", "avg"), ("rel.", "rel"))
}

_RATE = "{{{0}_pct_{1}:.2f}}\n({{{0}_events_{1}}})"
_AVERAGE = "{{{0}_avg:.2f}}\n[{{{0}_avg_low:.2f}}, {{{0}_avg_high:.2f}}]"
SCORE_COLUMNS = {
    "Method": "{method}",
    **{f"L2 {s} s": f"{{l2_cm_{s}s:.1f}}" for s in (1, 2, 3)},
    "L2 avg. [95 %]": "{l2_cm_avg:.1f}\n[{l2_cm_avg_low:.1f}, {l2_cm_avg_high:.1f}]",
    "L2 rel.": "{l2_rel:.1f}",
    **{f"Collision {s} s": _RATE.format("collision", f"{s}s") for s in (1, 2, 3)},
    "Collision avg. [95 %]": _AVERAGE.format("collision_pct"),
    "Collision rel.": "{collision_rel:.1f}",
    **{f"Intersection {s} s": _RATE.format("intersection", f"{s}s") for s in (1, 2, 3)},
    "Intersection avg. [95 %]": _AVERAGE.format("intersection_pct"),
    "Intersection rel.": "{intersection_rel:.1f}",
    "N": "{n}",
    "Unparsed": "{unparsed}",
}

FIRST = ("method", "pruned_percent", "tokens_kept", "tokens_total", "n", "scenes")  # columns that say what a row is

FLOPS_PARTS = ("vision", "pruner", "llm_linears", "llm_attention", "lm_head_last")
FLOPS_TOTALS = ("without_vision", "without_vision_causal", "with_vision")
FLOPS_COLUMNS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
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

PHASES = ("prefill", "decode", "end_to_end")
LATENCY_COLUMNS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Choose (ms)": "{choose_ms:.2f}",
    **{
        f"{title} {what}": form
        for phase, title in zip(PHASES, ("Prefill", "Decode", "End to end"), strict=True)
        for what, form in (("(ms)", f"{{{phase}_ms:.2f}}"), ("×", f"{{{phase}_ratio:.2f}}"),
                           ("95 %", f"[{{{phase}_low:.2f}}, {{{phase}_high:.2f}}]"))
    },
}  # fmt: skip

RECALL_COLUMNS = {
    "Method": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "Tokens": "{tokens_kept} / {tokens_total}",
    "N": "{n}",
    "Foreground kept [95 %]": "{foreground_recall:.3f} [{foreground_recall_low:.3f}, {foreground_recall_high:.3f}]",
    "Objects kept [95 %]": "{object_recall:.3f} [{object_recall_low:.3f}, {object_recall_high:.3f}]",
}
MASK_COLUMNS = {
    "Of": "{name}", "IoU": "{iou:.3f}", "95 %": "[{low:.3f}, {high:.3f}]", "Images": "{images}", "Scenes": "{scenes}",
    "Both (px)": "{both_px:,}", "Either (px)": "{either_px:,}",
}  # fmt: skip


def score_rows(scores: Sequence[Row], bounds: Sequence[str]) -> list[Row]:
    """Rows of Table 1 with Rel.: unpruned first, then by prune ratio in the given order of methods, bounds last."""
    ordered = sorted(table_1(scores), key=lambda row: (row["method"] in bounds, row["pruned_percent"]))
    return [{key: row.get(key) for key in FIRST} | row for row in ordered]


def flops_rows(efficiency: Mapping[str, Row], at: str, unit: float) -> list[Row]:
    """FLOPs in `unit` by method and ratio at the shapes `at` (`paper` or `driver`); no pruning once, first."""
    rows = []
    for name, record in efficiency.items():
        for row in record[at]["rows"]:
            if name == "none" or row["percent"]:
                parts = {part: row["flops"][part] / unit for part in FLOPS_PARTS + FLOPS_TOTALS}
                ratios = {f"{total}_ratio": row["ratio"][total] for total in FLOPS_TOTALS}
                about = {"method": name, "pruned_percent": row["percent"], "tokens_kept": row["tokens_kept"]}
                rows.append(about | parts | ratios)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def latency_rows(latency: Mapping[str, Row]) -> list[Row]:
    """Median ms and speed-up with interval by method and ratio; each method against the unpruned run beside it.

    `none` stands for the second measurement of its own baseline: what this machine calls no difference.
    """
    rows = []
    for name, record in latency.items():
        ratios = [key for key in record["phases"]["prefill"]["timings"] if key not in ("0", "again")]
        for key in ratios or ["again"]:
            row: Row = {"method": name, "pruned_percent": 0 if key == "again" else int(key)}
            row["choose_ms"] = record["phases"]["choose"]["timings"][key]["median_ms"]
            for phase in PHASES:
                found = record["phases"][phase]["speedups"][key]
                row[f"{phase}_ms"] = record["phases"][phase]["timings"][key]["median_ms"]
                row |= {f"{phase}_ratio": found["ratio"], f"{phase}_low": found["low"], f"{phase}_high": found["high"]}
            rows.append(row)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def mask_rows(masks: Mapping[str, Any]) -> list[Row]:
    """IoU by class, then by camera, of metrics/masks.json, each with its mean last; empty where no truth is known."""
    found = masks.get("iou", {})
    parts = {of: sorted(found.get(of, {}).items(), key=lambda item: item[0] == "mean") for of in ("class", "camera")}
    return [{"of": of, "name": name, **values} for of, part in parts.items() for name, values in part]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """What `dvc metrics diff` shows of Table 1 and the references: averages by row and prune ratio, 4 digits."""
    keys = ("l2_cm_avg", "l2_at_cm_avg", "collision_pct_avg", "intersection_pct_avg", "l2_rel")
    tree: dict[str, Any] = {}
    for row in rows:
        values = {key: round(row[key], 4) for key in keys if row.get(key) is not None}
        tree.setdefault(row["method"], {})[f"pruned_{row['pruned_percent']}"] = values | {"n": row["n"]}
    return tree
