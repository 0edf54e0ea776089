"""One of n processes that share work without speaking to each other: a SLURM array, or `--shard i/n` by hand."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from stages.core.errors import ParamsError

T = TypeVar("T")


def share_of(items: Sequence[T], shard: str, environment: Mapping[str, str] = os.environ) -> Sequence[T]:
    """Every n-th of the items, from the i-th on: `shard` is `i/n`, i counted from 0, or `slurm` (SLURM_ARRAY_TASK_*).

    Raises ParamsError for another text, and for an array that is no whole range, whose tasks would leave items out.
    """
    i, n = _of_slurm(environment) if shard == "slurm" else _by_hand(shard)
    return items[i::n]


def _by_hand(shard: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not int(match[1]) < int(match[2]):
        raise ParamsError(
            expected="--shard i/n with i from 0 to n - 1, or --shard slurm", got=repr(shard), fix="--shard 0/1 is all"
        )
    return int(match[1]), int(match[2])


def _of_slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX", "STEP")]
    try:
        task, count, low, high, step = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as error:
        came = f"no number in {error}" if isinstance(error, KeyError) else str(error)
        then = "start it with sbatch --array, or name the share with --shard i/n"
        raise ParamsError(expected=", ".join(names), got=came, fix=then) from error
    if (high - low) // step + 1 != count:
        raise ParamsError(
            expected="a whole array, as --array=0-63",
            got=f"{count} tasks of {low}-{high}",
            fix="submit the whole array again (finished shards are skipped), or name the share with --shard i/n",
        )
    return (task - low) // step, count
