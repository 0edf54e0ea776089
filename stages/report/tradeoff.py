"""Accuracy against cost: a point per method and prune ratio, the Pareto front, what fits a latency budget. Pure.

Costs are FLOPs at the paper's shapes, FLOPs of the driver at hand, and measured milliseconds. Each method was timed in
its own process beside the unpruned driver, so its milliseconds are the unpruned median of all processes divided by its
own speed-up: a process on a busier core is not slower by that.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

Row = dict[str, Any]

UNPRUNED, PHASE = "none", "end_to_end"
COSTS = {
    "tflops": "TFLOPs until the first answer token, at the paper's shapes",
    "mflops": "MFLOPs until the first answer token, driver at hand",
    "ms": "ms for a whole answer, measured",
}
ERRORS = {"l2_cm_avg": "L2, mean of 1, 2, 3 s (cm)", "collision_pct_avg": "Collision, mean of 1, 2, 3 s (%)"}
COLUMNS = {
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


def pareto_front(costs: Float[np.ndarray, " M"], errors: Float[np.ndarray, " M"]) -> Bool[np.ndarray, " M"]:
    """True where no other point is as good in both and better in one; lower is better. Equal points stand together."""
    cheaper, better = costs[:, None] >= costs, errors[:, None] >= errors  # [i, j]: j is as cheap, as good as i
    strictly = (costs[:, None] > costs) | (errors[:, None] > errors)
    return ~(cheaper & better & strictly).any(axis=1)


def points(scores: Sequence[Row], efficiency: Mapping[str, Row], latency: Mapping[str, Row]) -> list[Row]:
    """Every method of `efficiency` at every ratio with its errors and costs, and `front`: the costs on whose front of
    L2 it lies. A cost that was not measured is None."""
    measured = _answer_ms(latency)
    rows = []
    for score in scores:
        cell = (score["method"], score["pruned_percent"])
        if score["method"] in efficiency:
            record = efficiency[score["method"]]
            flops = {"tflops": _flops(record, "paper", cell[1], 1e12), "mflops": _flops(record, "driver", cell[1], 1e6)}
            kept = {key: score.get(key) for key in _KEPT}
            rows.append(kept | flops | measured.get(cell, dict.fromkeys(MS)))
    for row in rows:
        row["front"] = ""
    for cost, short in (("tflops", "TFLOPs"), ("mflops", "MFLOPs"), ("ms", "ms")):
        for row in on_front(rows, cost, "l2_cm_avg"):
            row["front"] = f"{row['front']}, {short}".removeprefix(", ")
    return rows


MS = ("ms", "ms_low", "ms_high", "ms_differs")  # the last: is it told apart from the unpruned driver's, A/A included?
_MINUS = [f"l2_minus_none{end}" for end in ("", "_low", "_high")]
_KEPT = [
    "method", "pruned_percent", "n", *(f"{name}{end}" for name in ERRORS for end in ("", "_low", "_high")), *_MINUS,
]  # fmt: skip


def _flops(record: Row, at: str, percent: int, unit: float) -> float | None:
    rows = [row for row in record[at]["rows"] if row["percent"] == percent]
    return rows[0]["flops"]["with_vision"] / unit if rows else None


def _answer_ms(latency: Mapping[str, Row]) -> dict[tuple[str, int], Row]:
    """Milliseconds by method and ratio with the interval of the speed-up that they come from; one clock for all."""
    baselines = [record["phases"][PHASE]["timings"]["0"]["median_ms"] for record in latency.values()]
    if not baselines:
        return {}
    unpruned_ms = median(baselines)
    found: dict[tuple[str, int], Row] = {}
    for name, record in latency.items():
        for key, speedup in record["phases"][PHASE]["speedups"].items():
            if key.isdigit():
                ends = {"ms": speedup["ratio"], "ms_low": speedup["high"], "ms_high": speedup["low"]}
                row: Row = {end: unpruned_ms / ratio for end, ratio in ends.items()}
                found[name, int(key)] = row | {"ms_differs": speedup["differs"]}
    return found | {(UNPRUNED, 0): dict.fromkeys(MS[:3], unpruned_ms) | {"ms_differs": None}}


def on_front(rows: Sequence[Row], cost: str, error: str) -> list[Row]:
    """The rows on the Pareto front of a cost and an error, cheapest first; rows without one of them are not asked."""
    known = [row for row in rows if row[cost] is not None and row[error] is not None]
    if not known:
        return []
    front = pareto_front(*(np.array([row[name] for row in known], float) for name in (cost, error)))
    return sorted((row for row, on in zip(known, front, strict=True) if on), key=lambda row: (row[cost], row[error]))


def recommended(rows: Sequence[Row], budget_ms: float) -> Row | None:
    """The row with the lowest L2 whose answer takes at most `budget_ms`, of equals the faster; None where none fits."""
    fits = [row for row in rows if row["ms"] is not None and row["ms"] <= budget_ms and row["l2_cm_avg"] is not None]
    return min(fits, key=lambda row: (row["l2_cm_avg"], row["ms"])) if fits else None
