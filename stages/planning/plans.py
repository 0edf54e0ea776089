"""The plans of one file, checked against the split that they are scored on."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

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


def planned_samples(
    table: "pa.Table", wanted: Collection[str], split: Collection[str], path: str, made_by: str
) -> dict[str, PlannedSample]:
    """Return the rows of the plan file `path` by sample token.

    Lists become arrays without a copy: 6,019 x 3,249 scores as Python numbers would take 0.6 GB. Raises DataError
    unless each of the `wanted` tokens has one row, each other token is one of the `split` and is there once, and each
    row has six finite waypoints.
    """
    _check_tokens(table["token"].to_pylist(), wanted, split, path, made_by)
    columns: dict[str, list[Any]] = {
        name: [scalar.values.to_numpy(zero_copy_only=False) if scalar.is_valid else None for scalar in table[name]]
        if name in LISTS
        else table[name].to_pylist()
        for name in table.column_names
    }
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    plans = {}
    for row in rows:
        waypoints_m = row["waypoints_m"]
        if waypoints_m.shape != (12,) or not np.isfinite(waypoints_m).all():
            raise DataError(
                expected=f"12 finite numbers of metres for sample {row['token']} in {path}",
                got=f"{waypoints_m.tolist()}",
                fix=f"run `{made_by}`",
            )
        plans[row["token"]] = PlannedSample(
            row["token"],
            waypoints_m.reshape(6, 2),
            row["parsed"],
            row.get("kept"),
            row["tokens_kept"],
            row["tokens_total"],
            (row["grid_h"], row["grid_w"]),
            row.get("scores"),
        )
    return plans


def _check_tokens(
    tokens: Sequence[str], wanted: Collection[str], split: Collection[str], path: str, made_by: str
) -> None:
    if not wanted:
        raise DataError(expected="key frames to score", got="a list without any", fix="edit score_plans.samples")
    known, planned = set(split), set(tokens)
    faults = {
        "twice in it": [token for token, n in Counter(tokens).items() if n > 1],
        "of another split": sorted(planned - known),
        "lacking": [token for token in wanted if token not in planned],
    }
    for what, found in faults.items():
        if found:
            raise DataError(
                expected=f"one plan for each of the {len(wanted)} key frames to score in {path}",
                got=f"{len(tokens)} rows, {len(found)} tokens {what} (first: {found[0]})",
                fix=f"run `{made_by}`",
            )
