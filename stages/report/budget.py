"""Which method and ratio to take under a latency budget, in words and numbers, and how sure that is. Pure."""

from collections.abc import Sequence
from typing import Any

from stages.core.params import Params
from stages.report.ablations import difference
from stages.report.choosing import methods_at
from stages.report.references import Samples
from stages.report.tradeoff import recommended

Row = dict[str, Any]


def advice(rows: Sequence[Row], samples: Samples, params: Params) -> Row | None:
    """The recommended row, with `budget_ms` and `alike`, in words: what fits as well and is not told apart in L2.

    Without a row that fits, `budget_ms` alone; None without a budget.
    """
    budget_ms, mine = params.profile_efficiency.budget_ms, params.score_plans
    if budget_ms is None:
        return None
    best = recommended(rows, budget_ms)
    if best is None:
        return {"budget_ms": budget_ms}
    others = [row for row in rows if row is not best and row["ms"] is not None and row["ms"] <= budget_ms]
    alike = []
    for row in others:
        pair = samples[row["method"], row["pruned_percent"]], samples[best["method"], best["pruned_percent"]]
        minus = difference(*pair, mine.resamples, mine.seed)
        if minus["n"] and minus["l2_low"] <= 0 <= minus["l2_high"]:
            alike.append(row)
    return best | {"budget_ms": budget_ms, "alike": methods_at(alike)}


def in_words(found: Row, rows: Sequence[Row]) -> str:
    """The recommendation as a sentence or two."""
    budget = f"Under a budget of {found['budget_ms']:g} ms for a whole answer (profile_efficiency.budget_ms)"
    if "method" not in found:
        timed = [row for row in rows if row["ms"] is not None]
        fastest = min(timed, key=lambda row: row["ms"]) if timed else None
        hint = f"; the fastest is {_name(fastest)} with {fastest['ms']:.2f} ms" if fastest else ": none was measured"
        return f"{budget} no method fits at any ratio{hint}."
    interval = f"{found['ms']:.2f} ms [{found['ms_low']:.2f}, {found['ms_high']:.2f}]"
    error = f"L2 {found['l2_cm_avg']:.2f} cm [{found['l2_cm_avg_low']:.2f}, {found['l2_cm_avg_high']:.2f}]"
    sure = "" if found["ms_high"] <= found["budget_ms"] else " The upper end of its time is above the budget."
    if found["ms_differs"] is False:
        sure += " That time is not told apart from the unpruned driver's (interval and A/A spread)."
    alike = found["alike"]
    rest = f" These frames do not tell it apart in L2 from what fits as well: {alike}." if alike else ""
    return f"{budget} the lowest L2 is that of {_name(found)}: {interval}, {error}.{sure}{rest}"


def _name(row: Row) -> str:
    return f"{row['method']} at {row['pruned_percent']} % pruned" if row["pruned_percent"] else "the unpruned driver"


def as_metrics(found: Row | None) -> dict[str, float]:
    """What is logged of a recommendation; nothing without a budget."""
    keys = ("budget_ms", "pruned_percent", "ms", "l2_cm_avg", "collision_pct_avg")
    return {f"recommended.{key}": float(found[key]) for key in keys if found and found.get(key) is not None}


def as_tags(found: Row | None) -> dict[str, str]:
    """Its name, beside the metrics."""
    return {"recommended": _name(found)} if found and "method" in found else {}
