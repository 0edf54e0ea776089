"""What driver and methods are measured against, as flat rows: the driver's controls, and the ruler. Pure.

L2 is the mean of the errors at 1, 2 and 3 s, in metres; differences are paired by sample and resampled by scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from stages.core.params import Masked, Params
from stages.planning.intervals import paired_difference
from stages.planning.scoring import HORIZONS_S
from stages.report.look import LOOK, starts_with_look

Row = dict[str, Any]
Samples = Mapping[tuple[str, int], Sequence[Row]]  # by method and prune ratio

ORDER = ("oracle", "random_keep", "inverse")  # best first, if the driver can tell them apart
_DIFFERENCE = "{difference_m:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}]"
DRIVER_COLUMNS = {
    "Plan": "{method}",
    "N": "{n}",
    "L2 (m) [95 %]": "{l2_m:.2f} [{l2_low:.2f}, {l2_high:.2f}]",
    "/ unpruned": "{ratio:.2f}",
    "Unparsed": "{unparsed}",
}
EVENT_COLUMNS = {
    "Event": "{event}",
    "N": "{n}",
    "Scenes": "{scenes}",
    "L2 (m)": "{none_m:.2f}",
    "other image": "{other_image_m:.2f}",
    "blind floor": "{blind_floor_m:.2f}",
    "driver − blind floor [95 %]": _DIFFERENCE,
}
RULER_COLUMNS = {
    "Keeps": "{method}",
    "Pruned (%)": "{pruned_percent}",
    "N": "{n}",
    "L2 (m)": "{l2_m:.2f}",
    "− unpruned [95 %]": _DIFFERENCE,
}


@dataclass(frozen=True)
class References:
    """The rows of each table; those that need the truth are empty where it is not known."""

    driver: list[Row]  # the driver, its controls, the bounds
    events: list[Row]  # all samples first, then by event
    ruler: list[Row]  # by prune ratio: oracle, methods, inverse
    order: list[Row]  # by prune ratio: does oracle, random, inverse hold


def reference_rows(samples: Samples, scores: Sequence[Row], params: Params) -> References:
    """All rows, of samples and of the rows of scores of the same grid."""
    grid, drawn = params.grid, (params.score_plans.resamples, params.score_plans.seed)
    ruled = "oracle" in grid.references and "inverse" in grid.references
    masked = [name for name in grid.references if name in get_args(Masked)]
    tested = [name for name in grid.methods if name != "none"]
    methods = ["oracle", *masked, *tested, "inverse"]
    samples = {cell: recorded(part) for cell, part in samples.items()}
    return References(
        driver_rows(scores),
        event_rows(samples, *drawn),
        ruler_rows(samples, methods, grid.percents, *drawn) if ruled else [],
        order_rows(samples, grid.percents, *drawn) if ruled and "random_keep" in methods else [],
    )


def recorded(samples: Sequence[Row]) -> list[Row]:
    """Those with an error at each of 1, 2 and 3 s: a protocol may count key frames whose future ends before."""
    return [row for row in samples if all(row[f"l2_at_cm_{s}s"] is not None for s in HORIZONS_S)]


def driver_rows(scores: Sequence[Row]) -> list[Row]:
    """Every row of scores that nothing was pruned for, with its ratio to the unpruned driver's L2; LOOK first."""
    rows: list[Row] = []
    unpruned_cm = next(row["l2_at_cm_avg"] for row in scores if row["method"] == "none")
    for row in (row for row in scores if row["pruned_percent"] == 0):
        rows.append({key: row[key] for key in ("method", "n", "unparsed")})
        if row["l2_at_cm_avg"] is not None:
            names = {"l2_m": "l2_at_cm_avg", "l2_low": "l2_at_cm_avg_low", "l2_high": "l2_at_cm_avg_high"}
            rows[-1] |= {new: row[name] / 100 for new, name in names.items()}
            rows[-1]["ratio"] = row["l2_at_cm_avg"] / unpruned_cm if unpruned_cm else None
    return starts_with_look(rows)


def event_rows(samples: Samples, resamples: int, seed: int) -> list[Row]:
    """L2 of the driver and its controls by event, and the driver's difference to the blind floor; `all` first."""
    parts = {name: samples.get((name, 0), []) for name in ("none", "other_image", "blind_floor")}
    events = sorted({row["event"] for row in parts["none"]} - {None})
    rows = []
    for event in ["all", *events] if events else []:
        seen = {name: [row for row in part if event in ("all", row["event"])] for name, part in parts.items()}
        means = {f"{name}_m": float(l2_m(part).mean()) if part else None for name, part in seen.items()}
        better = paired(seen["none"], seen["blind_floor"], resamples, seed)
        counts = {"n": better["n"] or len(seen["none"]), "scenes": len({row["scene"] for row in seen["none"]})}
        rows.append({"event": event, **better, **counts, **means})
    return rows


def ruler_rows(
    samples: Samples, methods: Sequence[str], percents: Sequence[int], resamples: int, seed: int
) -> list[Row]:
    """L2 of each method at each prune ratio and its difference to the unpruned driver, in the order of `methods`.

    First the driver without its image, as far as `samples` have it.
    """
    unpruned = samples["none", 0]
    look = [(name, 0) for name in LOOK if samples.get((name, 0))]
    return [
        {"method": method, "pruned_percent": p, **paired(samples[method, p], unpruned, resamples, seed)}
        for method, p in [*look, *((method, p) for p in percents for method in methods)]
    ]


def order_rows(samples: Samples, percents: Sequence[int], resamples: int, seed: int) -> list[Row]:
    """L2 of oracle, random_keep and inverse at each ratio that has any, and what inverse costs over random_keep."""
    rows: list[Row] = []
    for p in (p for p in percents if all(samples[name, p] for name in ORDER)):
        means = {name: float(l2_m(samples[name, p]).mean()) for name in ORDER}
        holds = means["oracle"] < means["random_keep"] < means["inverse"]
        costs = paired(samples["inverse", p], samples["random_keep", p], resamples, seed)
        rows.append({"pruned_percent": p, **means, "holds": holds, **costs})
    return rows


def l2_m(samples: Sequence[Row]) -> Float[np.ndarray, " N"]:
    """The mean error at 1, 2 and 3 s of each sample."""
    return np.array([np.mean([row[f"l2_at_cm_{s}s"] for s in HORIZONS_S]) for row in samples], float) / 100


def paired(method: Sequence[Row], baseline: Sequence[Row], resamples: int, seed: int) -> Row:
    """N, L2 and `method - baseline` with its interval, over the samples that both have; N = 0 alone without any."""
    mine, theirs = shared(method, baseline)
    if not mine:
        return {"n": 0}
    ours, scenes = l2_m(mine), [row["scene"] for row in mine]
    difference, low, high = paired_difference(ours, l2_m(theirs), scenes, resamples, seed)
    found = {"difference_m": difference, "difference_low": low, "difference_high": high}
    return {"n": len(mine), "l2_m": float(ours.mean()), **found}


def shared(method: Sequence[Row], baseline: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of samples that both have, in the order of `method`."""
    by_token = {row["token"]: row for row in baseline}
    mine = [row for row in method if row["token"] in by_token]
    return mine, [by_token[row["token"]] for row in mine]
