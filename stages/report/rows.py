"""The report's tables as flat rows of numbers, and how a cell of each is printed. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

TRAINED_FOR = {"Pixel rec.": "{pixels}", "Adv.": "{adversarial}"}
_RATE = "{{{0}_pct_{1}:.2f}}\n({{{0}_events_{1}}})"
_AVERAGE = "{{{0}_avg:.2f}}\n[{{{0}_avg_low:.2f}}, {{{0}_avg_high:.2f}}]"
SCORE_COLUMNS = {
    "Method": "{method}",
    **{f"L2 {s} s": f"{{l2_cm_{s}s:.2f}}" for s in (1, 2, 3)},
    "L2 avg. [95 %]": "{l2_cm_avg:.2f}\n[{l2_cm_avg_low:.2f}, {l2_cm_avg_high:.2f}]",
    "L2 rel.": "{l2_rel:.1f}{rel_mark}",
    **{f"Collision {s} s": _RATE.format("collision", f"{s}s") for s in (1, 2, 3)},
    "Collision avg. [95 %]": _AVERAGE.format("collision_pct"),
    "Collision rel.": "{collision_rel:.1f}{rel_mark}",
    **{f"Intersection {s} s": _RATE.format("intersection", f"{s}s") for s in (1, 2, 3)},
    "Intersection avg. [95 %]": _AVERAGE.format("intersection_pct"),
    "Intersection rel.": "{intersection_rel:.1f}{rel_mark}",
    "N": "{n}",
    "Unparsed": "{unparsed}",
}
_TIME = "{{{0}_{1}s:.2f}}\n[{{{0}_{1}s_low:.2f}}, {{{0}_{1}s_high:.2f}}]"
INTERVAL_COLUMNS = {
    "Method": "{method}",
    **{f"L2 {s} s": _TIME.format("l2_cm", s) for s in (1, 2, 3)},
    **{f"{title} {s} s": _TIME.format(f"{title.lower()}_pct", s) for title in ("Collision", "Intersection")
       for s in (1, 2, 3)},
    "N": "{n}",
}  # fmt: skip

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
    """What `dvc metrics diff` shows of Table 1 and the references by row and prune ratio: averages, Rel.; 4 digits."""
    averages = ("l2_cm_avg", "l2_at_cm_avg", "collision_pct_avg", "intersection_pct_avg")
    keys = (*averages, "l2_rel", "collision_rel", "intersection_rel")
    tree: dict[str, Any] = {}
    for row in rows:
        values = {key: round(row[key], 4) for key in keys if row.get(key) is not None}
        tree.setdefault(row["method"], {})[f"pruned_{row['pruned_percent']}"] = values | {"n": row["n"]}
    return tree
