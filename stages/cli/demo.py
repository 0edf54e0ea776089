"""The method in one picture; no data needed."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "fastdrive demo --seed 13 --out demo.png"


def demo(
    out: Annotated[Path, typer.Option(help="PNG to write; its numbers go beside it as JSON.")] = Path("demo.png"),
    seed: Annotated[int, typer.Option(help="Of the drawn scene.")] = 1,
    percent: Annotated[int, typer.Option(help="Prune ratio of the plan that is drawn: 25, 50 or 75.")] = 50,
) -> None:
    """Draw a frame; show mask, saliency, kept tokens, reconstructions and plan with the committed weights.

    Takes seconds on a CPU.
    """
    from stages.demo.show import show

    numbers = show(out, seed, percent)
    kept, cheaper = len(numbers["kept"][str(percent)]), numbers["flops_ratio"][str(percent)]
    typer.echo(
        f"{kept} of {numbers['tokens']} tokens kept, {cheaper:.2f} x fewer FLOPs; numbers: {out.with_suffix('.json')}"
    )
    typer.echo(str(out))
    typer.echo("next: fastdrive prune IMAGE --pruner models/demo")
