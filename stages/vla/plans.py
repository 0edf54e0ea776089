"""Plans as files: one parquet per pruner and ratio."""

from collections.abc import Sequence
from pathlib import Path

from stages.files import write_parquet
from stages.vla.base import Plan


def plans_path(name: str, percent: int) -> Path:
    """Where the plans of a pruner at a prune ratio lie; the unpruned driver and the bounds have ratio 0."""
    return Path("results/plans") / name / f"{percent}.parquet"


def write_plans(path: Path, plans: Sequence[Plan]) -> None:
    """One row a plan; `waypoints_m` is x1, y1, ... x6, y6.

    `scores` is null where a plan has none. They are the same at each ratio, so only one file of a pruner needs them:
    6,019 key frames of 3,249 tokens are 78 MB as float32.
    """
    import pyarrow as pa

    columns = {
        "token": pa.array([p.token for p in plans], pa.string()),
        "waypoints_m": pa.array([p.waypoints_m.flatten() for p in plans], pa.list_(pa.float64())),
        "answer": pa.array([p.answer for p in plans], pa.string()),
        "parsed": pa.array([p.parsed for p in plans], pa.bool_()),
        "kept": pa.array([p.kept for p in plans], pa.list_(pa.int32())),
        "tokens_kept": pa.array([p.tokens_kept for p in plans], pa.int32()),
        "tokens_total": pa.array([p.tokens_total for p in plans], pa.int32()),
        "grid_h": pa.array([p.grid[0] for p in plans], pa.int32()),
        "grid_w": pa.array([p.grid[1] for p in plans], pa.int32()),
        "scores": pa.array([p.scores for p in plans], pa.list_(pa.float32())),
    }
    write_parquet(path, pa.table(columns))
