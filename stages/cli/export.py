"""A pruner as a folder for others."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "fastdrive export models/recon --out exported"


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
