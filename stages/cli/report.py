"""The page of results, or what differs between two states."""

import json
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from stages.core.errors import DataError

EXAMPLE = "fastdrive report --compare main HEAD"


def report(
    compare: Annotated[
        tuple[str, str],
        typer.Option(metavar="A B", show_default=False, help="Two git revisions or MLflow runs to set side by side."),
    ] = ("", ""),
    out: Annotated[Path, typer.Option(help="Folder of that page.")] = Path("runs/compare"),
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Say where the page of results lies and whether it is up to date; with --compare write one on what differs."""
    if all(compare):
        from stages.core.params import read_params
        from stages.planning.tables import to_markdown
        from stages.report.compare import compare as write

        page, sheet = write(compare, out, Path.cwd(), read_params())
        shown = {head: form for head, form in sheet.columns.items() if not head.startswith(("Coll", "Inters"))}
        text = f"next: open it in a browser; all numbers: {out}/differences.csv"
        typer.echo(f"{to_markdown(sheet.rows, shown)}\n{page}\n{text}")
    else:
        page, made_by = Path("reports/index.html"), "dvc repro make_report"
        if not page.is_file():
            raise DataError(expected=f"{page}", got="no such file", fix=f"run `{made_by}`")
        status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json", "make_report"], capture_output=True)
        if status.returncode:  # DVC is at work elsewhere, or its files are damaged
            text = f"{page}; DVC does not say whether it is up to date\nnext: `dvc status make_report` shows why"
        elif json.loads(status.stdout):
            text = f"{page}, older than its inputs\nnext: `{made_by}`"
        else:
            text = f"{page}\nnext: open it in a browser"
        typer.echo(text)
    if show:
        webbrowser.open(page.absolute().as_uri())
