"""From numbers of single samples to one row of a table: sums and counts first, ratios and intervals at the end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.planning.base import FARTHEST_M, HORIZON_STEPS, Score, Truth
from stages.planning.intervals import bootstrap, wilson
from stages.planning.plans import PlannedSample
from stages.planning.recalls import SHARES, mean_shares
from stages.scenes.base import STEP_S

HORIZONS_S = tuple(round(steps * STEP_S) for steps in HORIZON_STEPS)
RATES = ("collision", "intersection")
AVERAGES = ("l2_cm_avg", "l2_at_cm_avg", "collision_pct_avg", "intersection_pct_avg")
Rows = Sequence[Mapping[str, Any]]
SAMPLE_COLUMNS = {  # of the table of samples: name -> Arrow type
    "pruned_percent": "int32",
    "token": "string",
    "scene": "string",
    "parsed": "bool",
    "event": "string",
    **{f"l2_m_{s}s": "double" for s in HORIZONS_S},
    **{f"l2_at_cm_{s}s": "double" for s in HORIZONS_S},
    **{f"{name}_{s}s": "double" for name in RATES for s in HORIZONS_S},
    **dict.fromkeys(SHARES, "double"),
}


def errors_at_m(path_m: Float[np.ndarray, "6 2"], future_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, " 3"]:
    """Distance to the recorded position at 1, 2, 3 s, whatever the protocol's L2 averages over."""
    apart_m = np.clip(path_m, -FARTHEST_M, FARTHEST_M) - future_m
    return np.hypot(apart_m[:, 0], apart_m[:, 1])[np.array(HORIZON_STEPS) - 1]


def sample_row(plan: PlannedSample, truth: Truth, score: Score) -> dict[str, Any]:
    """One plan scored, as flat columns: token, scene, parsed, l2_m_1s ... intersection_3s. Not parsed stands still.

    A value is None where there is none: no such rate in the protocol, or no recorded position at that time.
    """
    path_m = plan.waypoints_m if plan.parsed else np.zeros((6, 2))
    result = score(path_m, truth)
    assert result.counted, f"{truth.token} is no sample of the protocol"
    columns = {"l2_m": result.l2_m, "collision": result.collision, "intersection": result.intersection}
    columns["l2_at_cm"] = 100 * errors_at_m(path_m, truth.future_m)
    values = {f"{name}_{s}s": _value(part[i]) for name, part in columns.items() for i, s in enumerate(HORIZONS_S)}
    return {"token": truth.token, "scene": truth.scene, "parsed": plan.parsed, **values}


def _value(number: np.floating) -> float | None:
    return float(number) if np.isfinite(number) else None


def ratio_row(
    plans: Mapping[str, PlannedSample], complete: Sequence[str], samples: Rows, resamples: int, seed: int
) -> dict[str, Any]:
    """The row of one prune ratio: tokens, N, counts, values and intervals of its `samples`.

    `complete` are the tokens of `plans` that the protocol counts: for most, those whose whole future is recorded.
    """
    one = next(iter(plans.values()))
    return {
        "tokens_kept": one.tokens_kept if one.tokens_total else None,
        "tokens_total": one.tokens_total or None,
        "unparsed": sum(not plans[token].parsed for token in complete),
        "incomplete": len(plans) - len(complete),
        **totals(samples, resamples, seed),
        **mean_shares(samples, resamples, seed),
    }


def totals(samples: Rows, resamples: int, seed: int) -> dict[str, Any]:
    """N, counts, values at 1, 2, 3 s, their mean and 95 % intervals of the counted `samples` (sample_row and scene).

    L2 in cm (`l2_at_cm`: the error at that time; `l2_cm`: the protocol's), rates in %. Every value is None when N is 0.
    """
    scenes = [str(sample["scene"]) for sample in samples]
    row: dict[str, Any] = {"n": len(samples), "scenes": len(set(scenes))}
    l2_m = _columns(samples, "l2_m")
    row |= {f"l2_m_sum_{s}s": float(total) for s, total in zip(HORIZONS_S, l2_m.sum(axis=0), strict=True)}
    row |= _means("l2_cm", 100 * l2_m) | _interval("l2_cm_avg", 100 * l2_m, scenes, resamples, seed)
    at_cm = _columns(samples, "l2_at_cm")
    row |= _means("l2_at_cm", at_cm) | _interval("l2_at_cm_avg", at_cm, scenes, resamples, seed)
    for name in RATES:
        row |= _rate(name, _columns(samples, name), scenes, resamples, seed)
    return row


def _rate(
    name: str, shares: Float[np.ndarray, "N 3"], scenes: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    """Events (samples with any), means and intervals. Wilson's where a sample is 0 or 1, else that of the mean."""
    row: dict[str, Any] = _means(f"{name}_pct", 100 * shares) | _rate_interval(name, shares, scenes, resamples, seed)
    known = not np.isnan(shares).any()
    for s, column in zip(HORIZONS_S, shares.T, strict=True):
        count = int((column > 0).sum())
        row[f"{name}_events_{s}s"] = count if known else None
        if not known:
            row |= {f"{name}_pct_{s}s_low": None, f"{name}_pct_{s}s_high": None}
        elif np.isin(column, (0, 1)).all():
            row |= _bounds(f"{name}_pct_{s}s", _percent(wilson(count, len(column))))
        else:
            row |= _bounds(f"{name}_pct_{s}s", bootstrap(100 * column, scenes, resamples, seed))
    return row


def _columns(samples: Rows, name: str) -> Float[np.ndarray, "N 3"]:
    """NaN where a sample has no such value."""
    return np.array([[sample[f"{name}_{s}s"] for s in HORIZONS_S] for sample in samples], float).reshape(-1, 3)


def _means(name: str, values: Float[np.ndarray, "N 3"]) -> dict[str, float | None]:
    keys = [*(f"{name}_{s}s" for s in HORIZONS_S), f"{name}_avg"]
    if np.isnan(values).all(axis=0).any():
        return dict.fromkeys(keys)
    means = np.nanmean(values, axis=0)
    return dict(zip(keys, [*map(float, means), float(means.mean())], strict=True))


def _interval(
    name: str, values: Float[np.ndarray, "N 3"], scenes: Sequence[str], resamples: int, seed: int
) -> dict[str, float | None]:
    known = ~np.isnan(values).any(axis=1)
    if not known.any():
        return {f"{name}_low": None, f"{name}_high": None}
    named = [scene for scene, here in zip(scenes, known, strict=True) if here]
    return _bounds(name, bootstrap(values[known].mean(axis=1), named, resamples, seed))


def _rate_interval(
    name: str, events: Float[np.ndarray, "N 3"], scenes: Sequence[str], resamples: int, seed: int
) -> dict[str, float | None]:
    """The bootstrap; with no event at all, or nothing but events, it sees no spread, and Wilson's interval stands in.

    It is that of the 3 s rate, which bounds the average: an event up to 1 s is one up to 3 s.
    """
    if len(events) and ((events == 0).all() or (events == 1).all()):
        return _bounds(f"{name}_pct_avg", _percent(wilson(int(events[:, -1].sum()), len(events))))
    return _interval(f"{name}_pct_avg", 100 * events, scenes, resamples, seed)


def _bounds(name: str, interval: tuple[float, float]) -> dict[str, float | None]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _percent(shares: tuple[float, float]) -> tuple[float, float]:
    return 100 * shares[0], 100 * shares[1]


def metrics_tree(rows: Rows) -> dict[str, dict[str, Any]]:
    """The averages by prune ratio, for `dvc metrics diff`."""
    return {str(row["pruned_percent"]): {key: row[key] for key in (*AVERAGES, "n")} for row in rows}
