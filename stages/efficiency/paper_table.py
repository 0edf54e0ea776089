"""Table 4 of the paper beside our own counts, and in a line each why its figures cannot be of one accounting. Pure.

Ours are sums of `accounts.accountings` at the paper's shapes; which of them comes nearest to a printed figure is looked
up, not chosen. The reasoning, over more ways of counting than stand here: research/efficiency.md 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

# As printed (3,249 tokens unpruned, 812 kept): our name, theirs, tokens, TFLOPs, prefill and decode in ms.
PAPER = [
    {"method": method, "printed_as": theirs, "tokens": n, "tflops": tflops, "prefill_ms": prefill, "decode_ms": decode}
    for method, theirs, n, tflops, prefill, decode in (
        ("none", "Impromptu-VLA", 3249, 38.2, 187, 23),
        ("fastv", "FastV", 812, 4.1, 49, 21),
        ("sparsevlm", "SparseVLM", 812, 4.2, 55, 19),
        ("vispruner", "VisPruner", 812, 3.6, 43, 18),
        ("divprune", "DivPrune", 812, 3.6, 43, 18),
        ("recon", "FastDriveVLA", 812, 5.1, 51, 18),
    )
]
BEFORE = PAPER[3]  # VisPruner: of the methods that prune before the model, which cost nothing inside it
COLUMNS = {
    "Method": "{method}",
    "Tokens": "{tokens}",
    "Paper (T)": "{paper_tflops}",
    "paper, unpruned / pruned": "{paper_ratio:.1f}",
    "Ours with vision (TFLOP)": "{with_vision_tflops:.4g}",
    "without (TFLOP)": "{without_vision_tflops:.4g}",
    "with (TMAC)": "{with_vision_tmac:.4g}",
    "without (TMAC)": "{without_vision_tmac:.4g}",
    "ours, unpruned / pruned": "{without_vision_ratio:.2f}",
    "Nearest accounting": "{nearest}",
    "gives (T)": "{nearest_total:.4g}",
    "Why not one accounting": "{why}",
}


def rows(efficiency: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each line of the paper's table; `efficiency` holds the records of results/efficiency/ by method.

    A method without a record at the paper's ratio has None where ours would stand. Raises KeyError without `none`.
    """
    unpruned = efficiency["none"]["paper"]["rows"][0]
    before = _row_of(efficiency, "divprune")
    return [_row(paper, _row_of(efficiency, paper["method"]), unpruned, before) for paper in PAPER]


def _row_of(efficiency: Mapping[str, Mapping[str, Any]], method: str) -> Row | None:
    """The counts of a method at the ratio of the paper's table; the unpruned ones for `none`."""
    table = efficiency[method]["paper"]["rows"] if method in efficiency else []
    return next((row for row in table if row["percent"] == (0 if method == "none" else 75)), None)


def _row(paper: Row, ours: Row | None, unpruned: Row, before: Row | None) -> Row:
    about = {
        "method": paper["method"],
        "printed_as": paper["printed_as"],
        "tokens": paper["tokens"],
        "paper_tflops": paper["tflops"],
        "paper_ratio": PAPER[0]["tflops"] / paper["tflops"],
        "paper_prefill_ms": paper["prefill_ms"],
        "paper_decode_ms": paper["decode_ms"],
    }
    empty = ["with_vision_tflops", "without_vision_tflops", "with_vision_tmac", "without_vision_tmac"]
    empty += ["without_vision_ratio", "nearest", "nearest_total", "why"]
    if ours is None:
        return about | dict.fromkeys(empty)
    tera = {f"{name}_tflops": ours["flops"][name] / 1e12 for name in ("with_vision", "without_vision")}
    near = nearest(paper["tflops"], ours["accountings"])
    return {
        **about,
        **tera,
        **{name.replace("tflops", "tmac"): value / 2 for name, value in tera.items()},
        "without_vision_ratio": unpruned["flops"]["without_vision"] / ours["flops"]["without_vision"],
        "nearest": told(near),
        "nearest_total": near["total"] / 1e12,
        "why": why(paper, ours, unpruned, before),
    }


def nearest(tera: float, accountings: Sequence[Row]) -> Row:
    """The accounting whose total is nearest to `tera`, by ratio."""
    return min(accountings, key=lambda row: max(row["total"] / 1e12 / tera, tera / (row["total"] / 1e12)))


def told(accounting: Row) -> str:
    """An accounting in words."""
    pairs = {"full": "", "causal": ", causal half of attention", "none": ", LLM attention not counted"}
    vision, head = "with" if accounting["vision"] else "without", ", logits of all" * (accounting["lm_head"] == "all")
    return f"{accounting['unit'].upper()}, {vision} vision{pairs[accounting['attention']]}{head}"


def why(paper: Row, ours: Row, unpruned: Row, before: Row | None) -> str:
    """One line: what the printed figure holds that another row's does not. `before` is pruned ahead of the model."""
    flops, tera = ours["flops"], 1e-12
    vision, extra = flops["vision"] * tera, paper["tflops"] - BEFORE["tflops"]
    if paper["method"] == "none":
        linear = vision + flops["llm_linears"] * tera
        return f"out of reach without the tower's {vision:.1f} FLOP: with it and no LLM attention {linear:.1f}"
    if paper["method"] == "recon":
        cost = flops["pruner"] * tera
        return f"{extra:.1f} above VisPruner for a pruner that costs {cost:.2f} FLOP or {cost / 2:.2f} MAC: neither"
    if paper["method"] in ("fastv", "sparsevlm") and before is not None:
        layers = sum(n == unpruned["tokens_kept"] for n in ours["tokens_by_layer"])
        cost = (flops["llm"] - before["flops"]["llm"]) * tera
        return (
            f"{extra:.1f} above VisPruner for {layers} layers over all tokens, which cost {cost:.2f} FLOP or "
            f"{cost / 2:.2f} MAC: it is MAC, where the first row needs FLOP"
        )
    pairs = zip(unpruned["accountings"], ours["accountings"], strict=True)
    ratio = max(full["total"] / part["total"] for full, part in pairs)
    return (
        f"less than the tower alone ({vision:.1f} FLOP, {vision / 2:.1f} MAC), which the first row needs; in no "
        f"accounting here is the first row more than {ratio:.2f} times this one"
    )
