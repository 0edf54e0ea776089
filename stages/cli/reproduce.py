"""The whole pipeline."""

import os
import subprocess
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
    if code := subprocess.run([sys.executable, "-m", "flows.dvc"]).returncode:
        raise typer.Exit(code)
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]]
    )  # for dvc.yaml's `python`
    hand_over("dvc", "repro")
