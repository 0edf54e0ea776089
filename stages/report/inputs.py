"""All numbers that the report shows, read from what other stages wrote, and how they were made."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json, read_parquet
from stages.core.params import Grid, Params
from stages.report.paper import OTHER_N
from stages.vla.plans import pace_path, plans_path

Row = dict[str, Any]
Cell = tuple[str, int]  # method, prune ratio
Samples = dict[Cell, pd.DataFrame]  # per-sample scores: SAMPLE_COLUMNS of stages/planning/scoring.py

SCORE = "dvc repro score_plans"
TRAINING = Path("results/training")
DRIVER = Path("metrics/train_driver.json")
FOLLOW = {
    "imu": "its answers are of the IMU's path",
    "lidar": "its answers are of LIDAR_TOP's path and scored against that, bounds and blind_floor of the IMU's",
}
RAW = (  # of omnidrive and bevplanner, which place the ego's box for a point that is the IMU
    " (the ego's box stands where this protocol has it for the IMU's path, as when such answers go into its official "
    "code unchanged: on a turn of 30 degrees that is 0.5 m aside)"
)
POLICIES = {"zeros": "scored as standing still", "skip": "left out of N"}
SAMPLE_LIST = {
    "samples": "sample list {}",
    "listed": "{:,} entries",
    "repeated": "{:,} of them repeated",
    "incomplete": "{:,} without a complete future",
    "not_counted": "{:,} left out by the protocol",
    "departs": "{}",
}


@dataclass(frozen=True)
class Inputs:
    """Scores of all rows of the grid; costs, training and pace by method."""

    scores: list[Row]  # one per method and prune ratio: totals of stages/planning/scoring.py
    samples: Samples
    about: Row  # protocol, split, unparsed, sample list
    efficiency: dict[str, Row]
    latency: dict[str, Row]
    masks: Row
    driver: Row  # held-out figures of the small driver; empty on real data
    training: dict[str, Row]  # metrics of each trained pruner
    histories: dict[str, pd.DataFrame]  # a row per step and per evaluation
    paces: list[Row]  # throughput of each row that a driver planned


def read_inputs(params: Params) -> Inputs:
    """Read results/ and metrics/. Raises DataError naming the stage that makes what is missing."""
    grid = params.grid
    pruners = grid.methods
    if "none" not in pruners:
        raise ParamsError(
            expected="the unpruned baseline `none` among grid.pruners, which Rel. is relative to",
            got=", ".join(pruners),
            fix="add none to grid.pruners in params.yaml",
        )
    scored = {name: read_json(Path(f"results/scores/{name}.json"), SCORE) for name in grid.names}
    efficiency, latency = (
        {name: read_json(Path(f"results/{kind}/{name}.json"), "dvc repro profile_efficiency") for name in pruners}
        for kind in ("efficiency", "latency")
    )
    samples: Samples = {}
    for name in grid.names:
        rows = read_parquet(Path(f"results/scores/{name}.parquet"), SCORE).to_pandas()
        samples |= {(name, p): rows[rows["pruned_percent"] == p] for p in grid.ratios_of(name)}
    training, histories = {}, {}
    for name in grid.trained:
        made_by = f"dvc repro train_pruner@{name}"
        training[name] = read_json(Path(f"metrics/train_pruner/{name}.json"), made_by)
        if not (path := TRAINING / name / "history.csv").is_file():
            raise DataError(expected=f"{path}", got="no such file", fix=f"run `{made_by}`")
        histories[name] = pd.read_csv(path, dtype={"step": float}, float_precision="round_trip")
    driven = [name for name in grid.names if name not in grid.bounds]
    return Inputs(
        scores=[{**row, "method": name} for name, score in scored.items() for row in score["rows"]],
        samples=samples,
        about={key: value for key, value in scored[pruners[0]].items() if key not in ("rows", "method")},
        efficiency=efficiency,
        latency=latency,
        masks=read_json(Path("metrics/masks.json"), "dvc repro generate_masks"),
        driver=read_json(DRIVER, "dvc repro train_driver") if params.scenes.oracle_root and DRIVER.is_file() else {},
        training=training,
        histories=histories,
        paces=[read_json(pace_path(n), f"dvc repro {grid.plan_stage(n)}") for n in driven],
    )


def read_answers(cells: Sequence[Cell], tokens: Collection[str], grid: Grid) -> dict[Cell, dict[str, Row]]:
    """Return the answers by cell and sample token, without scores. DataError names the stage of a missing file."""
    import pyarrow.compute as pc

    found = {}
    for name, percent in cells:
        table = read_parquet(plans_path(name, percent), f"dvc repro {grid.plan_stage(name)}")
        wanted = table.filter(pc.field("token").isin(sorted(tokens)))
        shown = wanted.select([column for column in wanted.column_names if column != "scores"])
        found[name, percent] = {row["token"]: row for row in shown.to_pylist()}
    return found


def setting(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], params: Params, commit: str) -> str:
    """Return protocol, split, driver, list, N, unparsed answers, seeds and commit, where the scores have them."""
    vla, scored = params.vla, params.score_plans
    size = f"{vla.size_px[0]} x {vla.size_px[1]} px"
    images = {"budget": f"at most {vla.max_pixels:,} px in their own shape", "stretch": f"stretched to {size}"}
    driver = f"driver {vla.name} from {vla.checkpoint}, images {images.get(vla.fit, f'padded to {size}')}"
    driver += "" if vla.name == "toy" else f", asked for {vla.answer_format}"
    if follow := about.get("answers_follow"):
        raw = follow == "lidar" and about["protocol"] in ("omnidrive", "bevplanner")
        driver += f", {FOLLOW[follow]}{RAW if raw else ''}"
    counts = sorted({row["n"] for row in rows} or {0})
    n = f"N = {counts[0]:,} to {counts[-1]:,} by row" if len(counts) > 1 else f"N = {counts[0]:,} in every row"
    if any(row.get("rel_mark") for row in rows):
        n += f" ({OTHER_N}: not the unpruned driver's N, so its Rel. is not over the same samples)"
    unparsed = [f"{row['method']} {row['pruned_percent']} %: {row['unparsed']}" for row in rows if row.get("unparsed")]
    skipped = sum(row.get("skipped") or 0 for row in rows)
    policy = f"{about['unparsed']}: {POLICIES[about['unparsed']]}" + (f", {skipped:,} skipped" if skipped else "")
    parts = [
        f"Protocol {about['protocol']}" + (f" ({about['times']})" if about.get("times") else ""),
        f"split {about['split']} of {params.scenes.root}",
        driver,
        *(form.format(about[key]) for key, form in SAMPLE_LIST.items() if about.get(key) is not None),
        n,
        f"unparsed answers ({policy}): {', '.join(unparsed) or 'none'}",
        f"intervals over scenes, {scored.resamples:,} resamples, seed {scored.seed}; Wilson's of a rate at one time "
        "and of an average without any event take distinct key frames as independent",
        *(f"training seed {params.training(name).seed}" for name in params.grid.trained[:1]),
        f"commit {commit}" if commit else "no commit (outside git)",
    ]
    return "; ".join(parts) + "."
