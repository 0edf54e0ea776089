"""A candidate for champion."""

from typing import Annotated

import typer

from stages.cli import hand_over

EXAMPLE = 'fastdrive promote --approve "as good as the champion, 20 % cheaper"'


def promote(
    version: Annotated[str, typer.Option(help="Number or alias of the version.")] = "candidate",
    approve: Annotated[str, typer.Option(metavar="REASON", help="Approve it now; else a form in Prefect asks.")] = "",
    by: Annotated[str, typer.Option(help="Who approves; you, when left out.")] = "",
    auto: Annotated[bool, typer.Option("--auto", help="Ask nobody, where registry.auto allows it.")] = False,
) -> None:
    """Judge a version by the gate and, when it passed and a person approved, make it champion.

    A refusal prints the gate's table and ends with 5.
    """
    words = [f"--version={version}", f"--approve={approve}", f"--by={by}", *(["--auto"] if auto else [])]
    hand_over("flows.promote", *words)
