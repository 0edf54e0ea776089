"""The plans of one file, checked against the split that they are scored on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from stages.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "token", "waypoints_m", "answer", "parsed", "kept", "tokens_kept", "tokens_total", "grid_h", "grid_w",
    "scores",
)  # fmt: skip


@dataclass(frozen=True)
class PlannedSample:
    """One row of a plan file."""

    token: str
    waypoints_m: Float[np.ndarray, "6 2"]  # ego frame, x forward, y left
    parsed: bool
    kept: Int[np.ndarray, " K"]  # indices of the kept visual tokens
    tokens_kept: int  # merged tokens counted
    tokens_total: int
    grid: tuple[int, int]  # h, w
    scores: Float[np.ndarray, " N"] | None = None  # of all visual tokens, higher is kept; in one file of a ranking


def plan_rows(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows of a plan file, their scores as arrays: 6,019 x 3,249 of them as Python numbers would take 0.6 GB."""
    if "scores" not in table.column_names:
        return table.to_pylist()
    scores = [scalar.values for scalar in table["scores"]]
    rows = table.drop_columns(["scores"]).to_pylist()
    return [
        {**row, "scores": None if values is None else values.to_numpy()}
        for row, values in zip(rows, scores, strict=True)
    ]


def check_plans(
    rows: Sequence[Mapping[str, Any]], tokens: Sequence[str], path: str, made_by: str
) -> dict[str, PlannedSample]:
    """The rows of the plan file `path` by sample token.

    Raises DataError unless there is exactly one row with six finite waypoints for each of the split's `tokens`, and
    all rows keep the same number of tokens.
    """
    _check_tokens([row.get("token") for row in rows], tokens, path, made_by)
    plans = {row["token"]: _planned(row, path, made_by) for row in rows}
    counts = Counter((plan.tokens_kept, plan.tokens_total) for plan in plans.values())
    if len(counts) > 1:
        came = ", ".join(f"{kept} of {total} in {n} rows" for (kept, total), n in counts.most_common(3))
        raise DataError(wanted=f"one count of kept tokens in {path}", came=came, then=f"run `{made_by}`")
    return plans


def _check_tokens(came: Sequence[str | None], tokens: Sequence[str], path: str, made_by: str) -> None:
    if not tokens:
        raise DataError(wanted="key frames to score", came="a split without any", then="edit scenes.eval_split")
    double = [token for token, n in Counter(came).items() if n > 1]
    foreign = sorted({str(token) for token in came} - set(tokens))
    lacking = [token for token in tokens if token not in set(came)]
    for faults, what in ((double, "twice in it"), (foreign, "of another split"), (lacking, "lacking")):
        if faults:
            raise DataError(
                wanted=f"one plan for each of the {len(tokens)} key frames of the split in {path}",
                came=f"{len(came)} rows, {len(faults)} tokens {what} (first: {faults[0]})",
                then=f"run `{made_by}`",
            )


def _planned(row: Mapping[str, Any], path: str, made_by: str) -> PlannedSample:
    absent = [column for column in COLUMNS if column not in row]
    if absent:
        raise DataError(
            wanted=f"columns {', '.join(COLUMNS)} in {path}", came=f"no {absent[0]}", then=f"run `{made_by}`"
        )
    waypoints_m = np.asarray(row["waypoints_m"], float)
    if waypoints_m.shape != (12,) or not np.isfinite(waypoints_m).all():
        raise DataError(
            wanted=f"12 finite numbers of metres for sample {row['token']} in {path}",
            came=f"{waypoints_m.size} numbers, {int((~np.isfinite(waypoints_m)).sum())} of them not finite",
            then=f"run `{made_by}`",
        )
    return PlannedSample(
        token=row["token"],
        waypoints_m=waypoints_m.reshape(6, 2),
        parsed=row["parsed"],
        kept=np.asarray(row["kept"], np.int64),
        tokens_kept=row["tokens_kept"],
        tokens_total=row["tokens_total"],
        grid=(row["grid_h"], row["grid_w"]),
        scores=_scores(row, path, made_by),
    )


def _scores(row: Mapping[str, Any], path: str, made_by: str) -> Float[np.ndarray, " N"] | None:
    if row["scores"] is None:
        return None
    scores = np.asarray(row["scores"], np.float32)
    if scores.shape != (row["tokens_total"],) or not np.isfinite(scores).all():
        raise DataError(
            wanted=f"a finite score of each of the {row['tokens_total']} tokens of sample {row['token']} in {path}",
            came=f"{scores.size} numbers, {int((~np.isfinite(scores)).sum())} of them not finite",
            then=f"run `{made_by}`",
        )
    return scores
