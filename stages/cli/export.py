"""A pruner as a folder for others."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "fastdrive export models/recon --out exported"


def export(
    pruner: Annotated[Path, typer.Argument(help="Folder of a trained pruner.")],
    out: Annotated[Path, typer.Option(help="Folder to write; there must be none yet.")],
) -> None:
    """Write weights, config, model card, and the scorer as torch.export and ONNX, checked against the pruner.

    Needs the extra `export` (onnx, onnxscript, onnxruntime).
    """
    from stages.core.params import read_params
    from stages.export.folder import export as write

    notes = write(pruner, out, read_params())
    typer.echo(f"{out}: graphs within {notes['largest_difference']:.1e} of the pruner")
    typer.echo(f"next: python -c 'import fastdrive; print(fastdrive.load(\"{out}\"))'")
