"""All numbers that the report shows, read from what other stages wrote. A missing one names the stage to run."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json, read_parquet
from stages.core.params import Grid, Params

Record = dict[str, Any]
TRAINING = Path("results/training")
DRIVER = Path("metrics/train_driver.json")


@dataclass(frozen=True)
class Inputs:
    """Scores of all rows of the grid; the rest by method."""

    scores: list[Record]  # one per method and prune ratio: totals of stages/planning/totals.py
    samples: dict[tuple[str, int], list[Record]]  # by method and prune ratio: SAMPLE_COLUMNS of the same file
    about: Record  # protocol, split, unparsed
    efficiency: dict[str, Record]
    latency: dict[str, Record]
    masks: Record
    driver: Record  # held-out figures of the small driver; empty on real data, whose driver is another
    training: dict[str, Record]  # of each trained pruner, as histories
    histories: dict[str, list[Record]]  # a row per step and per evaluation


def read_inputs(params: Params) -> Inputs:
    """Everything that stands in results/ and metrics/. Raises DataError naming the stage that makes what is missing."""
    grid = params.grid
    pruners = grid.methods
    if "none" not in pruners:
        raise ParamsError(
            expected="the unpruned baseline `none` among grid.pruners, which Rel. is relative to",
            got=", ".join(pruners),
            fix="add none to grid.pruners in params.yaml",
        )
    scored = {name: read_json(Path(f"results/scores/{name}.json"), made_by("score", name, grid)) for name in grid.names}
    return Inputs(
        scores=[{**row, "method": name} for name, score in scored.items() for row in score["rows"]],
        samples={key: rows for name in grid.names for key, rows in _samples(name, grid).items()},
        about={key: value for key, value in scored[pruners[0]].items() if key not in ("rows", "method")},
        efficiency={name: _profile("efficiency", name, grid) for name in pruners},
        latency={name: _profile("latency", name, grid) for name in pruners},
        masks=read_json(Path("metrics/masks.json"), "dvc repro generate_masks"),
        driver=read_json(DRIVER, "dvc repro train_driver") if params.scenes.oracle_root and DRIVER.is_file() else {},
        training={n: read_json(Path(f"metrics/train_pruner/{n}.json"), trained_by(n)) for n in grid.trained},
        histories={name: read_history(TRAINING / name / "history.csv", trained_by(name)) for name in grid.trained},
    )


def made_by(verb: str, name: str, grid: Grid) -> str:
    """Return the command that makes the plans, scores or profile of a row; `verb` is plan, score or profile."""
    stages = {"plan": grid.plan_stage(name), "score": "score_plans", "profile": "profile_efficiency"}
    return f"dvc repro {stages[verb]}"


def trained_by(name: str) -> str:
    """The command that trains a pruner."""
    return f"dvc repro train_pruner@{name}"


def _samples(name: str, grid: Grid) -> dict[tuple[str, int], list[Record]]:
    rows = read_parquet(Path(f"results/scores/{name}.parquet"), made_by("score", name, grid)).to_pylist()
    return {(name, p): [row for row in rows if row["pruned_percent"] == p] for p in grid.ratios_of(name)}


def _profile(what: str, name: str, grid: Grid) -> Record:
    return read_json(Path(f"results/{what}/{name}.json"), made_by("profile", name, grid))


def read_history(path: Path, made_by: str) -> list[Record]:
    """The rows of a training history, numbers as numbers, empty cells as None."""
    if not path.is_file():
        raise DataError(expected=f"{path}", got="no such file", fix=f"run `{made_by}`")
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _value(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
