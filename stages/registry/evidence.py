"""The files that speak for a version: its scores by key frame, its FLOPs, its measured speed.

They go with the weights into the registry, so that a champion can be held against a candidate on any machine.
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
TIMED = "latency.sha256"  # a tag: the times are no part of what a version is, and yet decide
SAME = 1e-6  # of a mean: what sums in another order differ by
ACCOUNT, PHASE = "with_vision", "end_to_end"


def results_of(pruner: str, results: Path) -> dict[str, Path]:
    """Where the graph writes each file for `pruner`."""
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
    """What `files` (by the names above) say. Raises DataError for one that is missing, damaged or of another kind."""
    lacking = [str(path) for path in files.values() if not path.is_file()]
    if lacking:
        raise DataError(expected=f"{', '.join(map(str, files.values()))}", got=f"no {lacking[0]}", fix=f"run {made_by}")
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
            {int(name): found["ratio"] for name, found in _speedups(latency).items() if name.isdigit()},
        )
    except (KeyError, TypeError, ValueError) as error:
        where = files[SCORES].parent
        raise DataError(
            expected=f"tables of scores and costs in {where}", got=repr(error), fix=f"run {made_by}"
        ) from error


def _speedups(latency: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = latency["phases"][PHASE]["speedups"]
    return found


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
    """Raises ValueError where the table of key frames is of another run than the totals."""
    percent, n = total["pruned_percent"], len(samples.tokens)
    if total["n"] != n:
        raise ValueError(f"{total['n']} key frames in {SCORES}, {n} in {ROWS} at {percent} %")
    for name, values in samples.metrics.items():
        wanted = total[f"{name}_avg"]
        if n and wanted is not None and not abs(float(values.mean()) - wanted) <= SAME * max(1.0, abs(wanted)):
            came = f"{values.mean():.6g} in {ROWS}"
            raise ValueError(f"{name} of {wanted:.6g} in {SCORES}, {came} at {percent} %")


def _l2_cm(row: Mapping[str, Any]) -> float:
    return float(100 * np.mean([row[f"l2_m_{s}s"] for s in HORIZONS_S]))


def _rate_pct(row: Mapping[str, Any], name: str) -> float:
    return float(100 * np.mean([row[f"{name}_{s}s"] for s in HORIZONS_S]))


def hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file but the measured times, which are others each time."""
    return {name: sha256(path) for name, path in files.items() if name != LATENCY}


def identity(weights: Path, config: Path, files: Mapping[str, Path]) -> str:
    """One name for what a version is: its weights, its config and what speaks for it, but for the measured times."""
    return fingerprint(sha256(weights), sha256(config), hashes(files))


def rules_of(params: Params) -> Rules:
    """What params ask of a version, at the prune ratios of the grid. Raises ParamsError for a ratio without limits."""
    mine, percents = params.registry, params.grid.percents
    lacking = [percent for percent in percents if str(percent) not in mine.limits]
    if lacking:
        raise ParamsError(
            expected="an entry under registry.limits in params.yaml for each of grid.percents",
            got=f"none for {', '.join(map(str, lacking))}",
            fix="add it",
        )
    limits = {percent: mine.limits[str(percent)] for percent in percents}
    return Rules(
        samples=mine.samples,
        unparsed_pct=mine.unparsed_pct,
        limits={percent: {name: getattr(asked, name) for name in METRICS} for percent, asked in limits.items()},
        budget={p: {"flops_ratio": asked.flops_ratio, "speedup": asked.speedup} for p, asked in limits.items()},
        margins={name: getattr(mine.margins, name) for name in METRICS},
        resamples=params.score_plans.resamples,
        seed=params.score_plans.seed,
    )
