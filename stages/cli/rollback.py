"""The previous champion again."""

from typing import Annotated

import typer

from stages.cli import hand_over

EXAMPLE = 'fastdrive rollback --reason "brakes late in rain"'


def rollback(
    reason: Annotated[str, typer.Option(help="Kept on the version that goes.")],
    by: Annotated[str, typer.Option(help="Who decides; you, when left out.")] = "",
    champion: Annotated[str, typer.Option(help="Number of the version that is to go; the champion's.")] = "",
) -> None:
    """Make the version with the alias `previous` champion again; who, when and why are kept on both."""
    hand_over("flows.rollback", f"--reason={reason}", f"--by={by}", f"--champion={champion}")
