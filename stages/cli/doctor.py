"""What is wrong with this checkout and machine."""

from typing import Annotated

import typer

EXAMPLE = "fastdrive doctor --fix"


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what cannot lose anything, and list what was done.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Check packages, machine, servers, git, DVC's files, outputs, data and records; name the command that fixes each.

    Ends with 0 when a run may start, 2 when params.yaml, 4 when the machine, 3 when data is in the way.
    """
    from pathlib import Path

    from stages.cli import doctor_checks as checks

    root = Path.cwd()
    findings = list(checks.check(root))
    fixed = list(checks.repair(root, findings)) if fix else []
    if fix:
        findings = list(checks.check(root))  # a repair may have failed, or uncovered another fault
    code = checks.exit_code(findings)
    typer.echo(checks.as_json(findings, fixed, code) if json else checks.as_text(findings, fixed))
    raise typer.Exit(code)
