"""What it costs to choose tokens, beside what the fewer tokens save. Pure.

A method inside the language model chooses during the prefill, whose saving is then already net of it; before the
language model the choice comes on top.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

COLUMNS = {
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
CAPTION = (
    "What it costs to choose and what it saves, against the unpruned driver measured in the same rounds; above 0 time "
    "is saved. Net: the prefill's saving less the median cost of choosing, which a method inside the language model "
    "has already paid there. Answer: the whole request, the vision tower watched where the method needs it, and "
    "decoding. The words above call different only what goes beyond its interval and beyond the A/A spread, by which "
    "the unpruned driver differs from itself. At the paper's shapes FLOPs and memory are counted, not measured; a dash "
    "where the profile has none."
)


ENDS = ("", "_low", "_high", "_least", "_most")


def choosing_rows(latency: Mapping[str, Row], efficiency: Mapping[str, Row]) -> list[Row]:
    """A row per method and ratio by ascending ratio; memory is None where it was not measured."""
    rows = []
    for name, record in latency.items():
        for key in (key for key in record["phases"]["choose"]["timings"] if key not in ("0", "again")):
            choose = record["phases"]["choose"]["timings"][key]
            row: Row = {"method": name, "pruned_percent": int(key)}
            row["where"] = "inside" if _chooses_inside(efficiency[name], int(key)) else "before"
            row |= {f"choose_{end}": choose.get(end) for end in ("p10_ms", "p90_ms")}
            row |= {"choose_ms": choose["median_ms"], "choose_mb": _mb(record["phases"]["choose"], key)}
            row |= _at_paper_shapes(efficiency[name], int(key))
            for phase, short in (("prefill", "prefill"), ("end_to_end", "answer")):
                row |= _saved(record["phases"][phase], key, short)
            on_top_ms = row["choose_ms"] if row["where"] == "before" else 0
            row |= {f"net{end}_ms": row[f"prefill{end}_ms"] - on_top_ms for end in ENDS}
            rows.append(row)
    return sorted(rows, key=lambda row: row["pruned_percent"])


def _saved(phase: Row, key: str, short: str) -> Row:
    """Unpruned − pruned in ms: the pruned median times (speed-up − 1), so that the interval is that of the speed-up.

    `_least` and `_most` widen it to the A/A spread: 0 lies outside where latency.py says that the variant differs.
    """
    pruned_ms, found, spread = phase["timings"][key]["median_ms"], phase["speedups"][key], phase["aa_spread"]
    ratio, low, high = (found[name] for name in ("ratio", "low", "high"))
    speedups = (ratio, low, high, min(low, ratio / spread), max(high, ratio * spread))
    return {f"{short}{end}_ms": pruned_ms * (value - 1) for end, value in zip(ENDS, speedups, strict=True)}


def _chooses_inside(record: Row, percent: int) -> bool:
    """Does the first decoder layer of the driver still read every token?"""
    row = next((row for row in record["driver"]["rows"] if row["percent"] == percent), None)
    return bool(row and row["tokens_by_layer"][0] > row["tokens_kept"])


def _mb(phase: Row, key: str) -> float | None:
    """Peak of the choice alone, where the profile measured it."""
    found = phase.get("peak_bytes", {}).get(key)
    return None if found is None else found / 1e6


def _at_paper_shapes(record: Row, percent: int) -> Row:
    """What the same choice is at the paper's shapes: no clock, the same numbers every time."""
    rows = {row["percent"]: row for row in record["paper"]["rows"]}
    row = rows[percent]
    saved = rows[0]["flops"]["without_vision"] - (row["flops"]["without_vision"] - row["flops"]["pruner"])
    paper_mb = _mb({"peak_bytes": {"": row.get("choosing", {}).get("peak_bytes")}}, "")
    return {"choose_gflops": row["flops"]["pruner"] / 1e9, "paper_mb": paper_mb, "saves_gflops": saved / 1e9}


def in_words(rows: Sequence[Row]) -> str:
    """Which methods cost more than they save, and whose saving is not told apart from none, by interval and A/A."""
    parts = [
        _sorted_out(rows, "net", "Choosing takes more time than the shorter prefill saves", "The net saving"),
        _sorted_out(rows, "answer", "The whole answer is slower than unpruned", "Its saving"),
    ]
    return " ".join(parts)


def _sorted_out(rows: Sequence[Row], name: str, costs: str, saving: str) -> str:
    dear = [row for row in rows if row[f"{name}_most_ms"] < 0]
    open_ = [row for row in rows if row[f"{name}_least_ms"] <= 0 <= row[f"{name}_most_ms"]]
    said = [f"{costs}, beyond interval and A/A spread, for {methods_at(dear) or 'no method'}."]
    said += [f"{saving} is not told apart from 0 for {_all_or(open_, rows)}."] if open_ else []
    return " ".join(said)


def _all_or(found: Sequence[Row], rows: Sequence[Row]) -> str:
    return "any method" if len(found) == len(rows) else methods_at(found)


def methods_at(rows: Sequence[Row]) -> str:
    """Methods with their prune ratios, as `recon at 25 and 50 %, none`; the unpruned driver has no ratio."""
    percents: dict[str, list[str]] = {}
    for row in rows:
        percents.setdefault(row["method"], []).extend([str(row["pruned_percent"])] if row["pruned_percent"] else [])
    return ", ".join(f"{name} at {_list(found)} %" if found else name for name, found in percents.items())


def _list(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
