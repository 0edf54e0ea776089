"""The verbs that become another command: `fastdrive reproduce`, `lineage`, `promote`, `rollback`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from stages.cli import hand_over
from stages.core.provenance import git_says


def reproduce(
    flow: Annotated[bool, typer.Option("--flow", help="As a Prefect flow, seen in its UI.")] = False,
) -> None:
    """Run what changed since it last ran, as `make reproduce` does; killed, the same command goes on."""
    if flow:
        hand_over("flows.reproduce")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for dvc.yaml's `python`
    hand_over("dvc", "repro")


def lineage(
    name: Annotated[str, typer.Argument(help="MLflow run, version or alias, commit, DVC hash, Prefect run.")],
) -> None:
    """Print all other names of one state, and the commands that bring a clone to it."""
    commit = git_says(Path.cwd(), "rev-parse", "--verify", "-q", name) if name.startswith("HEAD") else ""
    hand_over("stages.registry.lineage", "--", commit or name)


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


def rollback(
    reason: Annotated[str, typer.Option(help="Kept on the version that goes.")],
    by: Annotated[str, typer.Option(help="Who decides; you, when left out.")] = "",
    champion: Annotated[str, typer.Option(help="Number of the version that is to go; the champion's.")] = "",
) -> None:
    """Make the version with the alias `previous` champion again; who, when and why are kept on both."""
    hand_over("flows.rollback", f"--reason={reason}", f"--by={by}", f"--champion={champion}")
