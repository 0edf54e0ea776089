"""What is wrong with this checkout and machine."""

from typing import Annotated

import typer

EXAMPLE = "fastdrive doctor --fix"


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what cannot lose anything, and say what was done.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Look at packages, machine, servers, git, DVC's files, outputs, data and records; say what to do about each.

    Ends with 0 when a run may start, 2 when params.yaml, 4 when the machine, 3 when data is in the way.
    """
    from pathlib import Path

    from stages.health import look, telling

    root = Path.cwd()
    found = list(look.look(root))
    done = list(look.repair(root, found)) if fix else []
    if fix:
        found = list(look.look(root))  # a repair may have failed, or shown what it hid
    code = look.exit_code(found)
    typer.echo(telling.as_json(found, done, code) if json else telling.told(found, done))
    raise typer.Exit(code)
