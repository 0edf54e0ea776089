"""Where a number came from."""

from pathlib import Path
from typing import Annotated

import typer

from stages.cli import hand_over
from stages.core.provenance import git_says

EXAMPLE = "fastdrive lineage champion"


def lineage(
    name: Annotated[str, typer.Argument(help="MLflow run, version or alias, commit, DVC hash, Prefect run.")],
) -> None:
    """Print all other names of one state, and the commands that bring a clone to it."""
    commit = git_says(Path.cwd(), "rev-parse", "--verify", "-q", name) if name.startswith("HEAD") else ""
    hand_over("stages.registry.lineage", "--", commit or name)
