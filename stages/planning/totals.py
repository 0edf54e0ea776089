"""From numbers of single samples to one row of a table: sums and counts first, ratios and intervals at the end."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.planning.base import FARTHEST_M, HORIZON_STEPS, SampleScore, Truth
from stages.planning.intervals import bootstrap, wilson
from stages.planning.plans import PlannedSample
from stages.planning.recalls import SHARES, mean_shares
from stages.planning.sample_lists import SampleList
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
    **{f"{name}_{s}s": "double" for name in RATES for s in HORIZONS_S},  # 0 or 1, or a share of steps
    **dict.fromkeys(SHARES, "double"),
}


def driven_m(plan: PlannedSample) -> Float[np.ndarray, "6 2"]:
    """The path that is scored: the plan's, or standing still where its answer could not be parsed."""
    return plan.waypoints_m if plan.parsed else np.zeros((6, 2))


def errors_at_m(path_m: Float[np.ndarray, "6 2"], future_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, " 3"]:
    """Distance to the recorded position at 1, 2, 3 s, whatever the protocol's L2 averages over; NaN where none is."""
    apart_m = np.clip(path_m, -FARTHEST_M, FARTHEST_M) - future_m
    return np.hypot(apart_m[:, 0], apart_m[:, 1])[np.array(HORIZON_STEPS) - 1]


def sample_row(plan: PlannedSample, truth: Truth, result: SampleScore) -> dict[str, Any]:
    """One scored plan as flat columns: token, scene, parsed, l2_m_1s ... intersection_3s; what is not known is None."""
    columns = {"l2_m": result.l2_m, "collision": result.collision, "intersection": result.intersection}
    columns["l2_at_cm"] = 100 * errors_at_m(driven_m(plan), truth.future_m)
    values = {
        f"{name}_{s}s": v for name, part in columns.items() for s, v in zip(HORIZONS_S, part.tolist(), strict=True)
    }
    known = {name: None if math.isnan(value) else value for name, value in values.items()}
    return {"token": truth.token, "scene": truth.scene, "parsed": plan.parsed, **known}


def ratio_row(
    plans: Mapping[str, PlannedSample],
    listed: SampleList,
    counted: Mapping[str, int],
    samples: Rows,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The row of one prune ratio: tokens, N, counts, values and intervals of its `samples`.

    `counted`: entries of the list, by token, whose sample the protocol counts; `not_counted` are the others. Those that
    are not among the `samples` were skipped, because their answers could not be parsed.
    """
    one, n = next(iter(plans.values())), sum(counted.values())
    return {
        "tokens_kept": one.tokens_kept if one.tokens_total else None,
        "tokens_total": one.tokens_total or None,
        "planned": len(plans),
        "listed": listed.listed,
        "repeated": listed.repeated,
        "incomplete": listed.incomplete,
        "not_counted": listed.listed - n,
        "unparsed": sum(times for token, times in counted.items() if not plans[token].parsed),
        "skipped": n - len(samples),
        **totals(samples, resamples, seed),
        **mean_shares(samples, resamples, seed),
    }


def totals(samples: Rows, resamples: int, seed: int) -> dict[str, Any]:
    """N, counts, values at 1, 2, 3 s, their mean and 95 % intervals of the counted `samples` (sample_row and scene).

    L2 in cm (`l2_at_cm`: the error at that time, over the samples that have one; `l2_cm`: the protocol's), rates in %;
    `_events` are samples with any. Every value is None when N is 0, and where the protocol knows no such rate. Means
    are resampled by scene; Wilson's intervals of single rates take distinct samples as independent, see RateOf.
    """
    scenes = [str(sample["scene"]) for sample in samples]
    row: dict[str, Any] = {"n": len(samples), "scenes": len(set(scenes))}
    l2_m = _columns(samples, "l2_m")
    sums_m = l2_m.sum(axis=0).tolist() if samples else [None] * len(HORIZONS_S)
    row |= {f"l2_m_sum_{s}s": total for s, total in zip(HORIZONS_S, sums_m, strict=True)}
    row |= _means("l2_cm", 100 * l2_m) | _intervals("l2_cm", 100 * l2_m, scenes, resamples, seed)
    at_cm = _columns(samples, "l2_at_cm")
    known = np.isfinite(at_cm).all(axis=1)
    at_scenes = [scene for scene, is_known in zip(scenes, known, strict=True) if is_known]
    row |= _means("l2_at_cm", at_cm[known]) | _intervals("l2_at_cm", at_cm[known], at_scenes, resamples, seed)
    distinct = list({sample.get("token", i): i for i, sample in enumerate(samples)}.values())
    for name in RATES:
        row |= rate_columns(RateOf(name, _columns(samples, name), scenes, distinct), resamples, seed)
    return row


@dataclass(frozen=True)
class RateOf:
    """A rate of each entry of a list.

    An entry that stands twice counts twice in the rate, but is no second observation: Wilson's interval is that of the
    distinct samples. It takes them as independent, which key frames of a scene are not, so beside an interval resampled
    by scene it may be too narrow.
    """

    name: str
    shares: Float[np.ndarray, "N 3"]  # NaN where the protocol does not know it
    scenes: Sequence[str]
    distinct: Sequence[int]  # one entry of each sample


def rate_columns(rate: RateOf, resamples: int, seed: int) -> dict[str, Any]:
    """Events, values and intervals of a rate; all None where the protocol does not know it, or N is 0."""
    name, shares = rate.name, rate.shares
    row: dict[str, Any] = {}
    unknown = not len(shares) or bool(np.isnan(shares).any())
    for s, part in zip(HORIZONS_S, shares.T, strict=True):
        row[f"{name}_events_{s}s"] = None if unknown else int((part > 0).sum())
        ends = (None, None) if unknown else _horizon_interval(part, rate, resamples, seed)
        row |= _bounds(f"{name}_pct_{s}s", ends)
    if unknown:
        return row | _means(f"{name}_pct", shares[:0]) | _bounds(f"{name}_pct_avg", (None, None))
    return row | _means(f"{name}_pct", 100 * shares) | _rate_interval(rate, resamples, seed)


def _horizon_interval(shares: Float[np.ndarray, " N"], rate: RateOf, resamples: int, seed: int) -> tuple[float, float]:
    """Percent: Wilson's of events that are or are not; of shares of steps the bootstrap."""
    if np.isin(shares, (0, 1)).all():
        return _wilson_percent(shares, rate)
    return bootstrap(100 * shares, rate.scenes, resamples, seed)


def _wilson_percent(events: Float[np.ndarray, " N"], rate: RateOf) -> tuple[float, float]:
    low, high = wilson(int((events[rate.distinct] > 0).sum()), len(rate.distinct))
    return 100 * low, 100 * high


def _columns(samples: Rows, name: str) -> Float[np.ndarray, "N 3"]:
    """Of None comes NaN."""
    return np.array([[sample[f"{name}_{s}s"] for s in HORIZONS_S] for sample in samples], float).reshape(-1, 3)


def _means(name: str, values: Float[np.ndarray, "N 3"]) -> dict[str, float | None]:
    keys = [*(f"{name}_{s}s" for s in HORIZONS_S), f"{name}_avg"]
    if not len(values):
        return dict.fromkeys(keys)
    means = values.mean(axis=0)
    return dict(zip(keys, [*map(float, means), float(means.mean())], strict=True))


def _intervals(
    name: str, values: Float[np.ndarray, "N 3"], scenes: Sequence[str], resamples: int, seed: int
) -> dict[str, float | None]:
    """Of each horizon and of their mean, from the same draws of scenes."""
    keys = [f"{name}_{at}" for at in (*(f"{s}s" for s in HORIZONS_S), "avg")]
    columns = [*values.T, values.mean(axis=1)]
    ends = [bootstrap(part, scenes, resamples, seed) if len(values) else (None, None) for part in columns]
    return {key: end for name, pair in zip(keys, ends, strict=True) for key, end in _bounds(name, pair).items()}


def _rate_interval(rate: RateOf, resamples: int, seed: int) -> dict[str, float | None]:
    """The bootstrap; with no event at all, or nothing but events, it sees no spread, and Wilson's interval stands in.

    It is that of the 3 s rate, which bounds the average: an event up to 1 s is one up to 3 s.
    """
    name, shares = f"{rate.name}_pct_avg", rate.shares
    if (shares == 0).all() or (shares == 1).all():
        return _bounds(name, _wilson_percent(shares[:, -1], rate))
    return _bounds(name, bootstrap(100 * shares.mean(axis=1), rate.scenes, resamples, seed))


def _bounds(name: str, interval: tuple[float, float] | tuple[None, None]) -> dict[str, float | None]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]}


def metrics_tree(rows: Rows) -> dict[str, dict[str, Any]]:
    """The averages by prune ratio, for `dvc metrics diff`."""
    return {str(row["pruned_percent"]): {key: row[key] for key in (*AVERAGES, "n")} for row in rows}
