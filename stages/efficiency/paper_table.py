"""Table 4 of the paper beside our own counts, and in a line each why its figures cannot be of one accounting. Pure.

Ours are sums of `accounts.accountings` at the paper's shapes; which of them comes nearest to a printed figure is looked
up, not chosen. The reasoning, over more ways of counting than stand here: research/efficiency.md 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

OURS = {  # the paper's name -> file name of the method here
    "Impromptu-VLA": "none",
    "FastV": "fastv",
    "SparseVLM": "sparsevlm",
    "VisPruner": "vispruner",
    "DivPrune": "divprune",
    "FastDriveVLA": "recon",
}
PERCENT = 75  # 812 of 3,249 tokens
BEFORE = "VisPruner"  # as printed it costs nothing but its tokens, and it prunes before the model
COLUMNS = {
    "Method": "{method}",
    "Tokens": "{tokens}",
    "Paper (T)": "{paper_tflops}",
    "Prefill (ms)": "{paper_prefill_ms}",
    "Decode (ms)": "{paper_decode_ms}",
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


def rows(efficiency: Mapping[str, Mapping[str, Any]], printed: Sequence[Row]) -> list[Row]:
    """A row for each of `printed`: the paper's `method`, `tokens`, `tflops`, `prefill_ms` and `decode_ms`.

    `efficiency` holds the records of results/efficiency/ by our names. A method without a record at the paper's ratio
    has None where ours would stand. Raises KeyError without `none`.
    """
    unpruned = efficiency["none"]["paper"]["rows"][0]
    tflops = {row["method"]: row["tflops"] for row in printed}
    before = _row_of(efficiency, "divprune")
    found = []
    for row in printed:
        about = {f"paper_{name}": row[name] for name in ("tflops", "prefill_ms", "decode_ms")}
        about |= {"method": row["method"], "tokens": row["tokens"], "paper_ratio": printed[0]["tflops"] / row["tflops"]}
        ours = _row_of(efficiency, OURS[row["method"]])
        if ours is None:
            found.append(about | dict.fromkeys(FOUND))
            continue
        near = nearest(row["tflops"], ours["accountings"])
        reason = why(OURS[row["method"]], row["tflops"] - tflops[BEFORE], ours, unpruned, before)
        found.append(about | _counted(ours, unpruned) | _named(near) | {"why": reason})
    return found


FOUND = (
    *(f"{name}_{unit}" for name in ("with_vision", "without_vision") for unit in ("tflops", "tmac")),
    *("without_vision_ratio", "nearest", "nearest_total", "why"),
)


def _row_of(efficiency: Mapping[str, Mapping[str, Any]], method: str) -> Row | None:
    """The counts of a method at the ratio of the paper's table; the unpruned ones for `none`."""
    table = efficiency[method]["paper"]["rows"] if method in efficiency else []
    return next((row for row in table if row["percent"] == (0 if method == "none" else PERCENT)), None)


def _counted(ours: Row, unpruned: Row) -> Row:
    tera = {name: ours["flops"][name] / 1e12 for name in ("with_vision", "without_vision")}
    return {
        **{f"{name}_tflops": value for name, value in tera.items()},
        **{f"{name}_tmac": value / 2 for name, value in tera.items()},
        "without_vision_ratio": unpruned["flops"]["without_vision"] / ours["flops"]["without_vision"],
    }


def _named(accounting: Row) -> Row:
    return {"nearest": told(accounting), "nearest_total": accounting["total"] / 1e12}


def nearest(tera: float, accountings: Sequence[Row]) -> Row:
    """The accounting whose total is nearest to `tera`, by ratio."""
    return min(accountings, key=lambda row: max(row["total"] / 1e12 / tera, tera / (row["total"] / 1e12)))


def told(accounting: Row) -> str:
    """An accounting in words."""
    pairs = {"full": "", "causal": ", causal half of attention", "none": ", LLM attention not counted"}
    vision, head = "with" if accounting["vision"] else "without", ", logits of all" * (accounting["lm_head"] == "all")
    return f"{accounting['unit'].upper()}, {vision} vision{pairs[accounting['attention']]}{head}"


def why(method: str, extra: float, ours: Row, unpruned: Row, before: Row | None) -> str:
    """One line: what the printed figure of our `method` holds that another row's does not.

    `extra` is what is printed above VisPruner's figure, in T; `before` the counts of a method that prunes ahead of the
    model and looks at no tower.
    """
    flops, tera = ours["flops"], 1e-12
    vision = flops["vision"] * tera
    if method == "none":
        linear = vision + flops["llm_linears"] * tera
        return f"out of reach without the tower's {vision:.1f} FLOP: with it and no LLM attention {linear:.1f}"
    if method == "recon":
        cost = flops["pruner"] * tera
        return f"{extra:.1f} above VisPruner for a pruner that costs {cost:.2f} FLOP or {cost / 2:.2f} MAC: neither"
    if method in ("fastv", "sparsevlm") and before is not None:
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
