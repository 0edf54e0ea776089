"""All numbers that the report shows, read from what other stages wrote. A missing file names the stage to run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json, read_parquet
from stages.core.params import Grid, Params

Row = dict[str, Any]
Cell = tuple[str, int]  # method, prune ratio
Samples = dict[Cell, pd.DataFrame]  # per-sample scores: SAMPLE_COLUMNS of stages/planning/totals.py

TRAINING = Path("results/training")
DRIVER = Path("metrics/train_driver.json")


@dataclass(frozen=True)
class Inputs:
    """Scores of all rows of the grid; costs, training and pace by method."""

    scores: list[Row]  # one per method and prune ratio: totals of stages/planning/totals.py
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
    scored = {name: read_json(Path(f"results/scores/{name}.json"), made_by("score", name, grid)) for name in grid.names}
    efficiency, latency = (
        {name: read_json(Path(f"results/{kind}/{name}.json"), made_by("profile", name, grid)) for name in pruners}
        for kind in ("efficiency", "latency")
    )
    driven = [name for name in grid.names if name not in grid.bounds]
    paces = [read_json(Path(f"results/throughput/{n}.json"), made_by("plan", n, grid)) for n in driven]
    return Inputs(
        scores=[{**row, "method": name} for name, score in scored.items() for row in score["rows"]],
        samples={cell: rows for name in grid.names for cell, rows in _samples(name, grid).items()},
        about={key: value for key, value in scored[pruners[0]].items() if key not in ("rows", "method")},
        efficiency=efficiency,
        latency=latency,
        masks=read_json(Path("metrics/masks.json"), "dvc repro generate_masks"),
        driver=read_json(DRIVER, "dvc repro train_driver") if params.scenes.oracle_root and DRIVER.is_file() else {},
        training={n: read_json(Path(f"metrics/train_pruner/{n}.json"), trained_by(n)) for n in grid.trained},
        histories={name: read_history(TRAINING / name / "history.csv", trained_by(name)) for name in grid.trained},
        paces=paces,
    )


def made_by(verb: str, name: str, grid: Grid) -> str:
    """Return the command that makes the plans, scores or profile of a row; `verb` is plan, score or profile."""
    stages = {"plan": grid.plan_stage(name), "score": "score_plans", "profile": "profile_efficiency"}
    return f"dvc repro {stages[verb]}"


def trained_by(name: str) -> str:
    """Return the command that trains a pruner."""
    return f"dvc repro train_pruner@{name}"


def _samples(name: str, grid: Grid) -> Samples:
    rows = read_parquet(Path(f"results/scores/{name}.parquet"), made_by("score", name, grid)).to_pandas()
    return {(name, p): rows[rows["pruned_percent"] == p] for p in grid.ratios_of(name)}


def read_history(path: Path, made_by: str) -> pd.DataFrame:
    """Return the rows of a training history; an empty cell is NaN."""
    if not path.is_file():
        raise DataError(expected=f"{path}", got="no such file", fix=f"run `{made_by}`")
    return pd.read_csv(path, dtype={"step": float}, float_precision="round_trip")


def read_answers(cells: Sequence[Cell], tokens: Collection[str], grid: Grid) -> dict[Cell, dict[str, Row]]:
    """Return the driver's answers by cell and sample token; `scores` are left out, and so are all other tokens.

    Raises DataError naming the stage to run where a file is missing.
    """
    return {cell: _answers(cell, tokens, grid) for cell in cells}


def _answers(cell: Cell, tokens: Collection[str], grid: Grid) -> dict[str, Row]:
    import pyarrow.compute as pc

    name, percent = cell
    folder = "results/blind_plans" if name in grid.bounds else "results/plans"
    table = read_parquet(Path(f"{folder}/{name}/{percent}.parquet"), made_by("plan", name, grid))
    wanted = table.filter(pc.field("token").isin(sorted(tokens)))
    shown = [column for column in wanted.column_names if column != "scores"]
    return {row["token"]: row for row in wanted.select(shown).to_pylist()}
