"""Plans as files: one parquet per pruner and ratio."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.io import read_parquet, write_parquet
from stages.vla.base import Plan

if TYPE_CHECKING:
    import pyarrow as pa

BLIND = ("blind_floor", "constant_velocity", "recorded_future")  # rows that score_plans plans


def plans_path(name: str, percent: int) -> Path:
    """Return where the plans of a row at a prune ratio lie; the unpruned driver and the bounds have ratio 0."""
    return Path("results/blind_plans" if name in BLIND else "results/plans") / name / f"{percent}.parquet"


def write_plans(path: Path, plans: Sequence[Plan]) -> None:
    """One row a plan; `waypoints_m` is x1, y1, ... x6, y6.

    `scores` is null where a plan has none. They are the same at each ratio, so only one file of a pruner needs them:
    6,019 key frames of 3,249 tokens are 78 MB as float32.
    """
    import pyarrow as pa

    columns = {
        "token": [p.token for p in plans],
        "waypoints_m": [p.waypoints_m.flatten() for p in plans],
        "answer": [p.answer for p in plans],
        "parsed": [p.parsed for p in plans],
        "kept": [p.kept for p in plans],
        "tokens_kept": [p.tokens_kept for p in plans],
        "tokens_total": [p.tokens_total for p in plans],
        "grid_h": [p.grid[0] for p in plans],
        "grid_w": [p.grid[1] for p in plans],
        "scores": [p.scores for p in plans],
    }
    schema = _schema()
    write_parquet(path, pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}))


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
    """Make `path` of the plan files `parts`, in their order, with the bytes that `write_plans` gives all their plans.

    Returns its rows. Raises DataError when a part is missing or damaged.
    """
    import pyarrow as pa

    table = pa.concat_tables([read_parquet(part, made_by) for part in parts]).cast(_schema()).combine_chunks()
    write_parquet(path, table)
    return table
