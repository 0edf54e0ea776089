"""Samples one by one: kept tokens, plan, answer."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "fastdrive view recon --percent 75"


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
