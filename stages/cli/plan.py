"""What a run would take."""

from typing import Annotated

import typer

from stages.cli import hand_over

EXAMPLE = "fastdrive plan train_pruner"


def plan(
    stages: Annotated[list[str] | None, typer.Argument(help="Stages of dvc.yaml and what they come from; all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say which stages would run and why, how long, on how much memory and disk; guesses are marked.

    Ends with 3 when this machine has no room for it.
    """
    hand_over("stages.outlook", *(["--json=-"] if json else []), "--", *(stages or []))
