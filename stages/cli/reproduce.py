"""The whole pipeline."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from stages.cli import hand_over

EXAMPLE = "fastdrive reproduce"


def reproduce(
    flow: Annotated[bool, typer.Option("--flow", help="As a Prefect flow, seen in its UI.")] = False,
) -> None:
    """Run what changed since it last ran, as `make reproduce` does; killed, the same command goes on."""
    if flow:
        hand_over("flows.reproduce")
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]]
    )  # for dvc.yaml's `python`
    hand_over("dvc", "repro")
