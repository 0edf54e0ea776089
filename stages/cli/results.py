"""`fastdrive report`, `view` and `export`: pages and folders of what the pipeline made."""

import json
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from stages.core.errors import DataError


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


def view(
    method: Annotated[str, typer.Argument(help="A row of the tables.")] = "recon",
    percent: Annotated[int, typer.Option(help="Prune ratio; 0 for unpruned rows.")] = 50,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("runs/view"),
) -> None:
    """Write a page with the scored key frames of a row, one by one; sort by metric, filter by scene."""
    from stages.cli.view_samples import make_samples, write_page
    from stages.core.params import read_params

    params, folder = read_params(), out / f"{method}-{percent}"
    samples = make_samples(method, percent, params, folder)
    page = write_page(folder, method, percent, params.score_plans.protocol, samples)
    typer.echo(f"{page}\nnext: open it in a browser")


def export(
    pruner: Annotated[Path, typer.Argument(help="Folder of a trained pruner.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")],
) -> None:
    """Write weights, config, model card, and the scorer as torch.export and ONNX, checked against the pruner.

    Needs the extra `export` (onnx, onnxscript, onnxruntime).
    """
    from stages.cli.export_folder import export as write
    from stages.core.params import read_params

    notes = write(pruner, out, read_params())
    typer.echo(f"{out}: graphs within {notes['largest_difference']:.1e} of the pruner")
    typer.echo(f"next: python -c 'import fastdrive; print(fastdrive.load(\"{out}\"))'")
