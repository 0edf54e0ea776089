"""From plans to rows of a table: single samples scored, then sums and counts, ratios and intervals at the end.

Where the world is drawn and its truth known, also how much of the foreground a pruner kept and how well it ranks it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from stages.core.params import Params
from stages.planning.base import FARTHEST_M, HORIZON_STEPS, SampleScore, Truth, load
from stages.planning.intervals import auc, bootstrap, wilson
from stages.planning.samples import PlannedSample
from stages.planning.truths import for_lidar_plans, truths_of
from stages.scenes.base import STEP_S
from stages.scenes.layout import fitted

HORIZONS_S = tuple(round(steps * STEP_S) for steps in HORIZON_STEPS)
RATES = ("collision", "intersection")
AVERAGES = ("l2_cm_avg", "l2_at_cm_avg", "collision_pct_avg", "intersection_pct_avg")
RECALLS = ("foreground_recall", "object_recall")
AUCS = ("foreground_auc", "object_auc")
SHARES = (*RECALLS, *AUCS)
OBJECT_SHARE = 0.15  # of a token's pixels: objects are small beside a token
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
Interval = Callable[[NDArray[Any], NDArray[Any]], tuple[float, float]]  # of the mean of values, by their scenes
Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
Cell = tuple[str, int]  # row of the grid, prune ratio
Plans = Mapping[Cell, Mapping[str, PlannedSample]]  # then by sample token
ScenePlans = tuple[str, Mapping[str, int], Plans]  # a scene, its entries of the list by sample token, plans for them
# Entries by sample token that the protocol counts, and a scored row per entry, without skipped plans
Scores = tuple[dict[str, int], dict[Cell, list[Row]]]
Sides = tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]  # True is foreground; True is an object


def score_scene(part: ScenePlans, params: Params) -> Scores:
    """Return the scores of every entry of a scene; what is listed twice is scored once and counts twice."""
    source, (scene, times, plans) = params.scenes, part
    if source.oracle_root is not None:
        import torch  # for class maps, which real data has not

        torch.set_num_threads(1)  # pooling one map: threads take longer to meet than to work
    counted: dict[str, int] = {}
    rows: dict[Cell, list[Row]] = {cell: [] for cell in plans}
    for truth in truths_of(scene, source.root, source.version, source.oracle_root):
        token = truth.token
        if token in times:
            scores = score_key_frame(truth, {cell: by_token[token] for cell, by_token in plans.items()}, params)
            if scores is not None:
                counted[token] = times[token]
                for cell, score in scores.items():
                    rows[cell] += [score] * times[token]
    return counted, rows


def score_key_frame(truth: Truth, plans: Mapping[Cell, PlannedSample], params: Params) -> dict[Cell, Row] | None:
    """Return the scores of a key frame, without skipped plans; None where the protocol does not count it.

    Bounds always plan for the IMU. A pruner ranks alike at every ratio: its scores lie beside the lowest.
    """
    options = params.score_plans
    protocol = load(options.protocol)
    truths = {"imu": truth, "lidar": for_lidar_plans(truth)}
    follows = {row: "imu" if row in params.grid.bounds else options.answers_follow for row, _ in plans}
    prepared = {follow: protocol.prepare(truths[follow]) for follow in sorted(set(follows.values()))}
    if any(part is None for part in prepared.values()):
        return None
    by_grid: dict[tuple[int, int], Sides] = {}
    if truth.classes is not None:
        classes = fitted(truth.classes, params.vla.size_px, params.vla.fit)
        by_grid = {grid: sides(classes, grid) for grid in {p.grid for p in plans.values() if p.tokens_total}}
    lowest = {row: plans[row, percent] for row, percent in sorted(plans, reverse=True)}
    aucs = {row: token_aucs(plan, by_grid.get(plan.grid)) for row, plan in lowest.items()}
    return {
        (row, percent): {
            **sample_row(plan, truths[follows[row]], protocol.judge(driven_m(plan), prepared[follows[row]])),
            **token_recalls(plan, by_grid.get(plan.grid)),
            **aucs[row],
            "event": truth.event,
        }
        for (row, percent), plan in plans.items()
        if plan.parsed or options.unparsed == "zeros"
    }


def driven_m(plan: PlannedSample) -> Float[np.ndarray, "6 2"]:
    """Return the path that is scored: the plan's, or standing still where its answer could not be parsed."""
    return plan.waypoints_m if plan.parsed else np.zeros((6, 2))


def errors_at_m(path_m: Float[np.ndarray, "6 2"], future_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, " 3"]:
    """Return the distance to the recorded position at 1, 2, 3 s, whatever the protocol's L2 is; NaN where none is."""
    apart_m = np.clip(path_m, -FARTHEST_M, FARTHEST_M) - future_m
    return np.hypot(apart_m[:, 0], apart_m[:, 1])[np.array(HORIZON_STEPS) - 1]


def sample_row(plan: PlannedSample, truth: Truth, result: SampleScore) -> dict[str, Any]:
    """Return a scored plan as flat columns: token, scene, parsed, l2_m_1s ... intersection_3s; None where unknown."""
    columns = {"l2_m": result.l2_m, "collision": result.collision, "intersection": result.intersection}
    columns["l2_at_cm"] = 100 * errors_at_m(driven_m(plan), truth.future_m)
    values = {
        f"{name}_{s}s": v for name, part in columns.items() for s, v in zip(HORIZONS_S, part.tolist(), strict=True)
    }
    known = {name: None if math.isnan(value) else value for name, value in values.items()}
    return {"token": truth.token, "scene": truth.scene, "parsed": plan.parsed, **known}


def sides(classes: UInt8[np.ndarray, "H W"], grid: tuple[int, int]) -> Sides:
    """Return which tokens are foreground, and which are objects, by a class map (0 background, 1 road, else objects).

    An object token has more than 15 % of its pixels on objects; a foreground token has more than half on any class, or
    is an object token.
    """
    import torch  # here: real data has no class maps, and is scored without torch

    from stages.backbone.tokens import foreground_share

    pixels = torch.tensor(classes)[None]
    objects = foreground_share(pixels > 1, grid)[0] > OBJECT_SHARE
    foreground = (foreground_share(pixels > 0, grid)[0] > 0.5) | objects
    return foreground.numpy(), objects.numpy()


def token_recalls(plan: PlannedSample, truth: Sides | None) -> dict[str, float | None]:
    """Return the shares of foreground and object tokens that were kept; None without such tokens, truth or image."""
    if truth is None or plan.kept is None or not plan.tokens_total:
        return dict.fromkeys(RECALLS)
    import torch

    from stages.backbone.tokens import recall

    kept = torch.zeros(1, plan.grid[0] * plan.grid[1], dtype=torch.bool)
    kept[0, torch.tensor(plan.kept, dtype=torch.long)] = True
    shares = [recall(kept, torch.from_numpy(side)[None]).item() for side in truth]
    return {name: None if np.isnan(share) else share for name, share in zip(RECALLS, shares, strict=True)}


def token_aucs(plan: PlannedSample, truth: Sides | None) -> dict[str, float | None]:
    """`auc` of foreground over background, of objects over all else; None without both sides, truth or a ranking."""
    if truth is None or plan.scores is None:
        return dict.fromkeys(AUCS)
    return {name: auc(plan.scores, side) for name, side in zip(AUCS, truth, strict=True)}


def ratio_row(
    plans: Mapping[str, PlannedSample],
    listed: Mapping[str, int],
    counted: Mapping[str, int],
    samples: Rows,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return the row of one prune ratio: tokens, N, counts, values and intervals of its `samples`.

    `listed`: samples.list_counts. `counted`: entries of the list, by token, that the protocol counts; those not among
    the `samples` were skipped, because their answers could not be parsed.
    """
    one, n = next(iter(plans.values())), sum(counted.values())
    return {
        "tokens_kept": one.tokens_kept if one.tokens_total else None,
        "tokens_total": one.tokens_total or None,
        "planned": len(plans),
        **listed,
        "not_counted": listed["listed"] - n,
        "unparsed": sum(times for token, times in counted.items() if not plans[token].parsed),
        "skipped": n - len(samples),
        **totals(samples, resamples, seed),
        **mean_shares(samples, resamples, seed),
    }


def totals(samples: Rows, resamples: int, seed: int) -> dict[str, Any]:
    """Return N, counts, values at 1, 2, 3 s, their mean and 95 % intervals of the counted `samples` (sample_row).

    L2 in cm (`l2_at_cm`: the error at that time, over the samples that have one; `l2_cm`: the protocol's), rates in %;
    `_events` are samples with any. Every value is None when N is 0, and where the protocol knows no such rate. Means
    are resampled by scene.
    """
    scenes = np.array([str(sample["scene"]) for sample in samples], str)
    interval = partial(bootstrap, resamples=resamples, seed=seed)
    l2_m, at_cm = _columns(samples, "l2_m"), _columns(samples, "l2_at_cm")
    row: dict[str, Any] = {"n": len(samples), "scenes": len(set(scenes))}
    sums_m = l2_m.sum(axis=0).tolist() if samples else [None] * len(HORIZONS_S)
    row |= {f"l2_m_sum_{s}s": total for s, total in zip(HORIZONS_S, sums_m, strict=True)}
    row |= _means("l2_cm", 100 * l2_m, (100 * l2_m).mean(axis=1), scenes, interval)
    known = np.isfinite(at_cm).all(axis=1)
    row |= _means("l2_at_cm", at_cm[known], at_cm[known].mean(axis=1), scenes[known], interval)
    distinct = list({sample.get("token", i): i for i, sample in enumerate(samples)}.values())
    for name in RATES:
        row |= _rate(name, _columns(samples, name), distinct, scenes, interval)
    return row


def _columns(samples: Rows, name: str) -> Float[np.ndarray, "N 3"]:
    """Return a column for each time; None becomes NaN."""
    return np.array([[sample[f"{name}_{s}s"] for s in HORIZONS_S] for sample in samples], float).reshape(-1, 3)


def _means(
    name: str,
    values: Float[np.ndarray, "N 3"],
    averages: Float[np.ndarray, " N"],
    scenes: NDArray[Any],
    interval: Interval,
) -> dict[str, float | None]:
    """Return means of the three times and of their average, with bootstrap intervals from the same draws of scenes."""
    means: list[float | None] = [None] * 4
    if len(values):
        means = [*map(float, values.mean(axis=0)), float(values.mean(axis=0).mean())]
    row: dict[str, float | None] = {}
    for at, mean, column in zip((*(f"{s}s" for s in HORIZONS_S), "avg"), means, (*values.T, averages), strict=True):
        low, high = interval(column, scenes) if len(values) else (None, None)
        row |= {f"{name}_{at}": mean, f"{name}_{at}_low": low, f"{name}_{at}_high": high}
    return row


def _rate(
    name: str, shares: Float[np.ndarray, "N 3"], distinct: Sequence[int], scenes: NDArray[Any], interval: Interval
) -> dict[str, Any]:
    """Return events, values and intervals of a rate; all None where the protocol does not know it, or N is 0.

    Events that are or are not have Wilson's interval. It is that of the `distinct` samples, since an entry that stands
    twice is no second observation; and it takes them as independent, which key frames of a scene are not, so it may be
    too narrow. With no event at all, or nothing but events, the bootstrap of the average sees no spread: it gets the
    interval of the 3 s rate, which bounds it, for an event up to 1 s is one up to 3 s.
    """
    known = bool(len(shares)) and not np.isnan(shares).any()
    counted = shares[: len(shares) * known]
    row: dict[str, Any] = _means(f"{name}_pct", 100 * counted, 100 * counted.mean(axis=1), scenes, interval)
    row |= {f"{name}_events_{s}s": int((shares[:, i] > 0).sum()) if known else None for i, s in enumerate(HORIZONS_S)}
    wilsons = {f"{s}s": i for i, s in enumerate(HORIZONS_S) if known and np.isin(shares[:, i], (0, 1)).all()}
    if known and ((shares == 0).all() or (shares == 1).all()):
        wilsons["avg"] = -1
    for at, i in wilsons.items():
        low, high = wilson(int((shares[distinct, i] > 0).sum()), len(distinct))
        row |= {f"{name}_pct_{at}_low": 100 * low, f"{name}_pct_{at}_high": 100 * high}
    return row


def mean_shares(samples: Rows, resamples: int, seed: int) -> dict[str, float | int | None]:
    """Return each recall's and AUC's mean over the `_n` samples that have one, and its 95 % interval; else None."""
    row: dict[str, float | int | None] = {}
    for name in SHARES:
        known = [sample for sample in samples if sample.get(name) is not None]
        values, scenes = np.array([sample[name] for sample in known], float), [str(s["scene"]) for s in known]
        low, high = bootstrap(values, scenes, resamples, seed) if known else (None, None)
        mean = float(values.mean()) if known else None
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_n": len(known)}
    return row


def metrics_tree(rows: Rows) -> dict[str, dict[str, Any]]:
    """Return the averages by prune ratio, for `dvc metrics diff`: six digits, which other CPUs give too."""

    def rounded(value: Any) -> Any:
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return {str(row["pruned_percent"]): {key: rounded(row[key]) for key in (*AVERAGES, "n")} for row in rows}
