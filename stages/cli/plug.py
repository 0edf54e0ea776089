"""A pruner, driver, annotator or protocol of yours."""

from typing import Annotated

import typer

EXAMPLE = "fastdrive plug my_pkg.my_pruner:MyPruner"


def plug(
    address: Annotated[str, typer.Argument(help="package.module:Class, on Python's path.")],
    name: Annotated[str, typer.Option(help="In params.yaml and the tables; the module's, when left out.")] = "",
) -> None:
    """Give a class outside this tree a name that params.yaml, DVC and the tables know.

    Writes a file of a few lines beside the others of its kind, with the hash of yours. Changed yours? The same again.
    """
    from stages.plugs import write_plug

    path, then = write_plug(address, name or address.partition(":")[0].rpartition(".")[2])
    typer.echo(f"wrote {path}\nnext: {then}")
