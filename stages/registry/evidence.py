"""Evaluation files of a version: scores by key frame, FLOPs, measured speed; and the limits of params.yaml.

The files go into the registry with the weights, so that a champion can be compared with a candidate on any machine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import DataError, ParamsError
from stages.core.io import fingerprint, read_json, read_parquet, sha256
from stages.core.params import Params
from stages.registry.gate import METRICS, Evidence, Rules, Samples

HORIZONS_S = (1, 2, 3)
SCORES, ROWS, UNPRUNED, FLOPS, LATENCY = (
    "scores.json",
    "scores.parquet",
    "unpruned.parquet",
    "efficiency.json",
    "latency.json",
)
SAME = 1e-6  # relative: rounding of a sum in another order
ACCOUNT, PHASE = "with_vision", "end_to_end"


def results_of(pruner: str, results: Path) -> dict[str, Path]:
    """Return the path of each file of `pruner`, as the DVC graph writes it."""
    return {
        SCORES: results / f"scores/{pruner}.json",
        ROWS: results / f"scores/{pruner}.parquet",
        UNPRUNED: results / "scores/none.parquet",
        FLOPS: results / f"efficiency/{pruner}.json",
        LATENCY: results / f"latency/{pruner}.json",
    }


def read_evidence(
    files: Mapping[str, Path], version: str, encoder: str, tags: Mapping[str, str], made_by: str
) -> Evidence:
    """Read `files` (by the names above). Raises DataError for one that is missing, damaged or of another kind."""
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        raise DataError(expected=", ".join(map(str, files.values())), got=f"no {missing[0]}", fix=f"run {made_by}")
    scores, flops, latency = (read_json(files[name], made_by) for name in (SCORES, FLOPS, LATENCY))
    rows, unpruned = (read_parquet(files[name], made_by).to_pylist() for name in (ROWS, UNPRUNED))
    try:
        errors_cm = {row["token"]: _l2_cm(row) for row in unpruned}
        unparsed = {row["pruned_percent"]: row["unparsed"] for row in scores["rows"]}
        percents = sorted(unparsed)
        by_percent = {percent: [row for row in rows if row["pruned_percent"] == percent] for percent in percents}
        samples = {percent: _samples(by_percent[percent], errors_cm, unparsed[percent]) for percent in percents}
        for row in scores["rows"]:
            _check_same(row, samples[row["pruned_percent"]])
        return Evidence(
            version,
            encoder,
            scores["protocol"],
            tags,
            samples,
            {row["percent"]: row["ratio"][ACCOUNT] for row in flops["paper"]["rows"]},
            {int(name): one["ratio"] for name, one in latency["phases"][PHASE]["speedups"].items() if name.isdigit()},
        )
    except (KeyError, TypeError, ValueError) as error:
        where = files[SCORES].parent
        raise DataError(
            expected=f"tables of scores and costs in {where}", got=repr(error), fix=f"run {made_by}"
        ) from error


def _samples(rows: list[dict[str, Any]], errors_cm: Mapping[str, float], unparsed: int) -> Samples:
    rows = sorted(rows, key=lambda row: str(row["token"]))
    columns = {
        "l2_cm": [_l2_cm(row) for row in rows],
        "collision_pct": [_rate_pct(row, "collision") for row in rows],
        "intersection_pct": [_rate_pct(row, "intersection") for row in rows],
    }
    return Samples(
        tuple(row["token"] for row in rows),
        tuple(row["scene"] for row in rows),
        {name: np.array(columns[name], float) for name in METRICS},
        np.array([errors_cm.get(row["token"], np.nan) for row in rows], float),
        unparsed,
    )


def _check_same(total: Mapping[str, Any], samples: Samples) -> None:
    """Raises ValueError where the table of key frames belongs to another run than the totals."""
    percent, n = total["pruned_percent"], len(samples.tokens)
    if total["n"] != n:
        raise ValueError(f"{total['n']} key frames in {SCORES}, {n} in {ROWS} at {percent} %")
    for name, values in samples.metrics.items():
        average = total[f"{name}_avg"]
        if n and average is not None and not abs(float(values.mean()) - average) <= SAME * max(1.0, abs(average)):
            raise ValueError(f"{name} of {average:.6g} in {SCORES}, {values.mean():.6g} in {ROWS} at {percent} %")


def _l2_cm(row: Mapping[str, Any]) -> float:
    return float(100 * np.mean([row[f"l2_m_{s}s"] for s in HORIZONS_S]))


def _rate_pct(row: Mapping[str, Any], name: str) -> float:
    return float(100 * np.mean([row[f"{name}_{s}s"] for s in HORIZONS_S]))


def identity(weights: Path, config: Path, files: Mapping[str, Path]) -> str:
    """Return a fingerprint of weights, config and evaluation files; without the timings, which differ on every run."""
    hashes = {name: sha256(path) for name, path in files.items() if name != LATENCY}
    return fingerprint(sha256(weights), sha256(config), hashes)


def rules_of(params: Params) -> Rules:
    """Return the gate's limits at the prune ratios of the grid. Raises ParamsError for a ratio without limits."""
    registry, percents = params.registry, params.grid.percents
    missing = [percent for percent in percents if str(percent) not in registry.limits]
    if missing:
        raise ParamsError(
            expected="an entry under registry.limits in params.yaml for each of grid.percents",
            got=f"none for {', '.join(map(str, missing))}",
            fix="add it",
        )
    limits = {percent: registry.limits[str(percent)] for percent in percents}
    return Rules(
        samples=registry.samples,
        unparsed_pct=registry.unparsed_pct,
        limits={percent: {name: getattr(limit, name) for name in METRICS} for percent, limit in limits.items()},
        budget={p: {"flops_ratio": limit.flops_ratio, "speedup": limit.speedup} for p, limit in limits.items()},
        margins={name: getattr(registry.margins, name) for name in METRICS},
        resamples=params.score_plans.resamples,
        seed=params.score_plans.seed,
    )
