"""DVC's graph and status, asked in this process: importing DVC takes seconds, so it is done once and by one verb."""

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, ParamsError, TryAgainError


@contextmanager
def open_graph(root: Path) -> Iterator[Any]:
    """Yield the `dvc.repo.Repo` of a checkout.

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
        raise TryAgainError(
            expected=expected, got=f"another DVC at work: {str(error).splitlines()[0]}", fix=fix
        ) from error
    except DvcException as error:
        fix = "`fastdrive doctor --fix`, or `dvc status`, which shows more"
        raise DataError(expected=expected, got=" ".join(str(error).split())[:300], fix=fix) from error


def ordered(repo: Any) -> list[Any]:
    """Return every stage, inputs before their readers."""
    import networkx

    return list(networkx.dfs_postorder_nodes(repo.index.graph))  # an edge leads from a stage to what it reads


def inputs(repo: Any, stage: Any) -> list[Any]:
    """Return the stages whose outputs a stage reads."""
    return list(repo.index.graph.successors(stage))


def choose(repo: Any, names: Sequence[str]) -> set[Any]:
    """Return the stages of these names (of a matrix: all cells) and all that they need; every stage for no name.

    Raises ParamsError with the nearest name for one that does not exist.
    """
    import networkx

    if not names:
        return set(repo.index.stages)
    chosen: set[Any] = set()
    for name in names:
        found = [stage for stage in repo.index.stages if name in (stage.addressing, stage.addressing.partition("@")[0])]
        if not found:
            known = {part for stage in repo.index.stages for part in (stage.addressing, stage.addressing.split("@")[0])}
            near = difflib.get_close_matches(name, sorted(known), 1)
            fix = f"`fastdrive plan {near[0]}`" if near else "`dvc stage list` names them all"
            raise ParamsError(expected="a stage of dvc.yaml", got=repr(name), fix=fix)
        chosen.update(found, *(networkx.descendants(repo.index.graph, stage) for stage in found))
    return chosen
