"""Samples one by one: what was kept, planned, said."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "fastdrive view recon --percent 75"


def view(
    method: Annotated[str, typer.Argument(help="A row of the tables.")] = "recon",
    percent: Annotated[int, typer.Option(help="Prune ratio; 0 for unpruned rows.")] = 50,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("runs/view"),
    rerun: Annotated[Path | None, typer.Option(metavar="FILE.rrd", help="A recording of Rerun instead.")] = None,
    fiftyone: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder FiftyOne reads instead.")] = None,
) -> None:
    """Write a page that walks through the scored key frames of a row: next, previous, sort by metric, filter by scene.

    Rerun's SDK is fetched by uv into an environment of its own.
    """
    from stages.core.params import read_params
    from stages.viewer.exports import to_fiftyone, to_rerun
    from stages.viewer.page import write_page
    from stages.viewer.samples import write_samples

    params, folder = read_params(), out / f"{method}-{percent}"
    exported = rerun or fiftyone
    samples = write_samples(method, percent, params, folder, "png" if exported else "webp")
    if rerun:
        to_rerun(folder, rerun)
        typer.echo(f"{rerun}\nnext: uvx --from rerun-sdk rerun {rerun}")
    if fiftyone:
        about = {"method": method, "pruned_percent": percent}
        typer.echo(f"{fiftyone}\nnext, where FiftyOne is: {to_fiftyone(folder, fiftyone, about, samples)}")
    if not exported:
        page = write_page(folder, method, percent, params.score_plans.protocol, samples)
        typer.echo(f"{page}\nnext: open it in a browser")
