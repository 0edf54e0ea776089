"""Versions and machine, for an issue."""

import typer

EXAMPLE = "fastdrive info"


def info() -> None:
    """Print what a report of a fault needs: versions, machine, commit, state of DVC; passwords masked."""
    from pathlib import Path

    from stages.health.report import report

    typer.echo(report(Path.cwd()))
