"""What a run would do."""

from typing import Annotated

import typer

EXAMPLE = "fastdrive plan train_pruner"


def plan(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages of dvc.yaml, with all that they need; every stage by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """List the stages that would run, why, and how long each took last time; free memory and disk of this machine."""
    import json as json_module
    from pathlib import Path

    from stages.cli.plan_table import as_json, make_plan, table

    found = make_plan(Path.cwd(), stages or [])
    typer.echo(json_module.dumps(as_json(found), indent=1) if json else table(found))
