"""DVC's graph of stages, asked in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, TryAgainError


@contextmanager
def open_graph(root: Path) -> Iterator[Any]:
    """Yield the `dvc.repo.Repo` of a checkout. DVC is asked in this process: importing it takes seconds.

    Raises DataError where DVC cannot read its files, TryAgainError while another DVC holds the lock.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    expected = "to read dvc.yaml and dvc.lock"
    try:
        with Repo(str(root)) as repo:
            yield repo
    except LockError as error:
        fix = "wait until the other DVC ends, then run the same command again"
        got = f"another DVC at work: {str(error).splitlines()[0]}"
        raise TryAgainError(expected=expected, got=got, fix=fix) from error
    except DvcException as error:
        fix = "`git checkout dvc.lock` if it was cut short, or `dvc status`, which shows more"
        raise DataError(expected=expected, got=" ".join(str(error).split())[:300], fix=fix) from error
