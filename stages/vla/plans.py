"""Plans: as text and back, as parquet files, and those that are made without an image."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.core.io import check_file, read_json, read_parquet, write_parquet
from stages.scenes.base import FUTURE_STEPS, STEP_S, Frame

if TYPE_CHECKING:
    import pyarrow as pa

OPEN, CLOSE = "<PLANNING>", "</PLANNING>"
BLIND = ("blind_floor", "constant_velocity", "recorded_future")  # rows that score_plans plans
REFERENCES = ("oracle", "inverse", "masked_text_attention", "other_image", "black_image")  # planned in one go


@dataclass(frozen=True)
class Plan:
    """One answer of a driver."""

    token: str  # sample token
    waypoints_m: NDArray[np.float64]  # (T, 2), ego frame, x forward, y left; zeros when not parsed
    answer: str  # raw text
    parsed: bool
    kept: NDArray[np.int64]  # indices of the kept visual tokens, ascending
    tokens_kept: int  # K, merged tokens counted
    tokens_total: int  # N
    grid: tuple[int, int]  # (h, w)
    scores: NDArray[np.float32] | None = None  # (N,), reading order, higher is kept; of a method that ranks


def format_answer(waypoints_m: NDArray[np.float64], decimals: int) -> str:
    """Return `<PLANNING>[x1, y1], ... [x6, y6]</PLANNING>`, metres, x forward, y left; no negative zero."""
    pairs = (f"[{x:.{decimals}f}, {y:.{decimals}f}]" for x, y in np.round(waypoints_m, decimals) + 0.0)
    return OPEN + ", ".join(pairs) + CLOSE


def parse_answer(text: str) -> NDArray[np.float64] | None:
    """Return the (T, 2) waypoints; None unless exactly T bracketed pairs of finite numbers stand between the tags."""
    start, end = text.find(OPEN), text.find(CLOSE)
    if start < 0 or end < start:
        return None
    pairs = [pair.split(",") for pair in re.findall(r"\[([^\[\]]*)\]", text[start + len(OPEN) : end])]
    if len(pairs) != FUTURE_STEPS or any(len(pair) != 2 for pair in pairs):
        return None
    try:
        numbers = [[float(number) for number in pair] for pair in pairs]
    except ValueError:
        return None
    return np.array(numbers) if all(math.isfinite(number) for pair in numbers for number in pair) else None


def plans_path(name: str, percent: int) -> Path:
    """Return where the plans of a row at a prune ratio lie; the unpruned driver and the bounds have ratio 0."""
    kind = "blind" if name in BLIND else "reference" if name in REFERENCES else ""
    return Path("results", f"{kind}_plans".lstrip("_"), name, f"{percent}.parquet")


def pace_path(name: str) -> Path:
    """Return where lies how fast the plans of a row were made."""
    return Path("results/throughput", "references" if name in REFERENCES else "", f"{name}.json")


def write_plans(path: Path, plans: Sequence[Plan]) -> None:
    """Write one row a plan; `waypoints_m` is x1, y1, ... x6, y6.

    `scores` is null where a plan has none. They are the same at each ratio, so only one file of a pruner needs them:
    6,019 key frames of 3,249 tokens are 78 MB as float32.
    """
    import pyarrow as pa

    names = ("token", "answer", "parsed", "kept", "tokens_kept", "tokens_total", "scores")
    columns: dict[str, list[object]] = {name: [getattr(plan, name) for plan in plans] for name in names}
    columns["waypoints_m"] = [plan.waypoints_m.flatten() for plan in plans]
    columns["grid_h"], columns["grid_w"] = [plan.grid[0] for plan in plans], [plan.grid[1] for plan in plans]
    write_parquet(path, pa.table(columns, schema=_schema()))


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        {
            "token": pa.string(),
            "waypoints_m": pa.list_(pa.float64()),
            "answer": pa.string(),
            "parsed": pa.bool_(),
            "kept": pa.list_(pa.int32()),
            "tokens_kept": pa.int32(),
            "tokens_total": pa.int32(),
            "grid_h": pa.int32(),
            "grid_w": pa.int32(),
            "scores": pa.list_(pa.float32()),
        }
    )


def join_plans(parts: Sequence[Path], path: Path, made_by: str) -> "pa.Table":
    """Join `parts` into `path`, byte-equal to `write_plans` of all; return its rows. DataError for a damaged part."""
    import pyarrow as pa

    table = pa.concat_tables([read_parquet(part, made_by) for part in parts]).cast(_schema()).combine_chunks()
    write_parquet(path, table)
    return table


def constant_velocity(frame: Frame) -> NDArray[np.float64]:
    """Return (T, 2) straight on at the current speed."""
    steps = np.arange(1, FUTURE_STEPS + 1)
    return np.stack([frame.speed_mps * STEP_S * steps, np.zeros(FUTURE_STEPS)], axis=1)


def recorded_future(frame: Frame) -> NDArray[np.float64]:
    """Return (T, 2) as driven; past the end of the scene the last known position (which no protocol scores)."""
    path = np.vstack([np.zeros(2), frame.future_ego_m])
    last_known = np.maximum.accumulate(np.where(np.isfinite(path).all(axis=1), np.arange(len(path)), 0))
    return path[last_known][1:]


BOUNDS = {"constant_velocity": constant_velocity, "recorded_future": recorded_future}


def blind_plan(frame: Frame, waypoints_m: NDArray[np.float64]) -> Plan:
    """Return a plan for which no visual token was read."""
    return Plan(frame.token, waypoints_m, format_answer(waypoints_m, 2), True, np.empty(0, np.int64), 0, 0, (0, 0))


@dataclass(frozen=True)
class BlindFloor:
    """The best guess from the current speed alone, by S speeds: what the driver's training scenes did on average."""

    speeds_mps: Float[np.ndarray, " S"]  # ascending
    waypoints_m: Float[np.ndarray, "S T 2"]

    def __call__(self, frame: Frame) -> NDArray[np.float64]:
        """Return (T, 2) of the nearest speed; of two equally near ones the lower."""
        return self.waypoints_m[np.abs(self.speeds_mps - frame.speed_mps).argmin()]


def read_blind_floor(checkpoint: Path) -> BlindFloor:
    """Return the table beside a driver's weights. Raises DataError when it is missing or of another training."""
    name, made_by = "blind_floor.json", "dvc repro train_driver"
    table = read_json(checkpoint / name, made_by)
    check_file(checkpoint, name, made_by)
    return BlindFloor(np.array(table["speed_mps"], float), np.array(table["waypoints_m"], float))
