"""The plans of one file, checked against the split that they are scored on."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from stages.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("token", "waypoints_m", "parsed", "tokens_kept", "tokens_total", "grid_h", "grid_w")
TOKEN_COLUMNS = ("kept", "scores")  # nearly all of a file; read where the truth of the tokens is known
LISTS = ("waypoints_m", "kept", "scores")  # columns with a list in each row


@dataclass(frozen=True)
class PlannedSample:
    """One row of a plan file."""

    token: str
    waypoints_m: Float[np.ndarray, "6 2"]  # ego frame, x forward, y left
    parsed: bool
    kept: Int[np.ndarray, " K"] | None  # indices of the kept visual tokens; None where nobody asks
    tokens_kept: int  # merged tokens counted
    tokens_total: int
    grid: tuple[int, int]  # h, w
    scores: Float[np.ndarray, " N"] | None = None  # of all visual tokens, higher is kept; in one file of a ranking


def plan_rows(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows of a plan file, their lists as arrays: 6,019 x 3,249 scores as Python numbers would take 0.6 GB."""
    lists = [name for name in LISTS if name in table.column_names]
    columns = [[_array(scalar) for scalar in table[name]] for name in lists]
    rows = table.drop_columns(lists).to_pylist()
    return [{**row, **dict(zip(lists, values, strict=True))} for row, *values in zip(rows, *columns, strict=True)]


def _array(scalar: "pa.ListScalar") -> NDArray[Any] | None:
    """Without a copy; a null inside becomes NaN."""
    return scalar.values.to_numpy(zero_copy_only=False) if scalar.is_valid else None


def check_plans(
    rows: Sequence[Mapping[str, Any]],
    wanted: Collection[str],
    split: Collection[str],
    path: str,
    made_by: str,
    columns: Sequence[str] = (*COLUMNS, *TOKEN_COLUMNS),
) -> dict[str, PlannedSample]:
    """The rows of the plan file `path` by sample token.

    Raises DataError unless each of the `wanted` tokens has one row, each other token is one of the `split` and stands
    there once, each row has the `columns` and six finite waypoints, and all rows keep the same number of tokens.
    """
    _check_tokens([row.get("token") for row in rows], wanted, split, path, made_by)
    absent = [column for column in columns if column not in rows[0]]
    if absent:
        raise DataError(
            expected=f"columns {', '.join(columns)} in {path}", got=f"no {absent[0]}", fix=f"run `{made_by}`"
        )
    plans = {row["token"]: _planned(row, path, made_by) for row in rows}
    counts = Counter((plan.tokens_kept, plan.tokens_total) for plan in plans.values())
    if len(counts) > 1:
        came = ", ".join(f"{kept} of {total} in {n} rows" for (kept, total), n in counts.most_common(3))
        raise DataError(expected=f"one count of kept tokens in {path}", got=came, fix=f"run `{made_by}`")
    return plans


def _check_tokens(
    came: Sequence[str | None], wanted: Collection[str], split: Collection[str], path: str, made_by: str
) -> None:
    if not wanted:
        raise DataError(expected="key frames to score", got="a list without any", fix="edit score_plans.samples")
    known, there = set(split), set(came)
    double = [token for token, n in Counter(came).items() if n > 1]
    foreign = [token for token in there if token not in known]
    lacking = [token for token in wanted if token not in there]
    for faults, what in (
        (double, "twice in it"),
        (sorted(map(str, foreign)), "of another split"),
        (lacking, "lacking"),
    ):
        if faults:
            raise DataError(
                expected=f"one plan for each of the {len(wanted)} key frames to score in {path}",
                got=f"{len(came)} rows, {len(faults)} tokens {what} (first: {faults[0]})",
                fix=f"run `{made_by}`",
            )


def _planned(row: Mapping[str, Any], path: str, made_by: str) -> PlannedSample:
    waypoints_m = np.asarray(row["waypoints_m"], float)
    if waypoints_m.shape != (12,) or not np.isfinite(waypoints_m).all():
        raise DataError(
            expected=f"12 finite numbers of metres for sample {row['token']} in {path}",
            got=f"{waypoints_m.size} numbers, {int((~np.isfinite(waypoints_m)).sum())} of them not finite",
            fix=f"run `{made_by}`",
        )
    return PlannedSample(
        token=row["token"],
        waypoints_m=waypoints_m.reshape(6, 2),
        parsed=row["parsed"],
        kept=np.asarray(row["kept"]) if "kept" in row else None,
        tokens_kept=row["tokens_kept"],
        tokens_total=row["tokens_total"],
        grid=(row["grid_h"], row["grid_w"]),
        scores=_scores(row, path, made_by),
    )


def _scores(row: Mapping[str, Any], path: str, made_by: str) -> Float[np.ndarray, " N"] | None:
    if row.get("scores") is None:
        return None
    scores = np.asarray(row["scores"], np.float32)
    if scores.shape != (row["tokens_total"],) or not np.isfinite(scores).all():
        raise DataError(
            expected=f"a finite score of each of the {row['tokens_total']} tokens of sample {row['token']} in {path}",
            got=f"{scores.size} numbers, {int((~np.isfinite(scores)).sum())} of them not finite",
            fix=f"run `{made_by}`",
        )
    return scores
