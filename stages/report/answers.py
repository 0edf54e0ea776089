"""What the driver answered, by sample, without the scores that plan files hold besides."""

from collections.abc import Collection, Sequence
from typing import Any

from stages.core.io import read_parquet
from stages.core.params import Grid
from stages.report.inputs import made_by
from stages.vla.plans import plans_path

Answer = dict[str, Any]  # columns of stages/vla/plans.py but scores
Cell = tuple[str, int]  # method, prune ratio


def read_answers(cells: Sequence[Cell], tokens: Collection[str], grid: Grid) -> dict[Cell, dict[str, Answer]]:
    """By cell and sample token; only the `tokens` asked for become Python objects (6,019 x 2,436 indices are many).

    Raises DataError naming the stage to run where a file is missing.
    """
    return {cell: _of(cell, tokens, grid) for cell in cells}


def _of(cell: Cell, tokens: Collection[str], grid: Grid) -> dict[str, Answer]:
    import pyarrow.compute as pc

    table = read_parquet(plans_path(*cell), made_by("plan", cell[0], grid))
    wanted = table.filter(pc.field("token").isin(sorted(tokens)))
    shown = [name for name in wanted.column_names if name != "scores"]
    return {row["token"]: row for row in wanted.select(shown).to_pylist()}
