"""share_of: every item in exactly one task of an array."""

import pytest

from stages.core.array import share_of
from stages.core.errors import ParamsError

ITEMS = list(range(10))


def slurm(task: int, low: int, high: int, step: int = 1, count: int | None = None) -> dict[str, str]:
    values = {"ID": task, "MIN": low, "MAX": high, "STEP": step, "COUNT": count or (high - low) // step + 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize("n", [1, 3, 12])
def test_the_shares_are_disjoint_and_hold_everything(n: int) -> None:
    shares = [share_of(ITEMS, f"{i}/{n}") for i in range(n)]
    assert sorted(item for share in shares for item in share) == ITEMS


@pytest.mark.parametrize(("low", "high", "step"), [(0, 3, 1), (1, 4, 1), (2, 10, 4)])
def test_an_array_of_slurm_may_count_from_anywhere(low: int, high: int, step: int) -> None:
    shares = [share_of(ITEMS, "slurm", slurm(task, low, high, step)) for task in range(low, high + 1, step)]
    assert sorted(item for share in shares for item in share) == ITEMS


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "a/b", "1/0", ""])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match="i from 0 to n - 1"):
        share_of(ITEMS, text)


def test_an_array_with_gaps_and_no_array_are_refused() -> None:
    with pytest.raises(ParamsError, match="submit the whole array again"):
        share_of(ITEMS, "slurm", slurm(7, 3, 7, count=2))
    with pytest.raises(ParamsError, match="sbatch --array"):
        share_of(ITEMS, "slurm", {})
