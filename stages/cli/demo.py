"""The method in one picture; no data needed."""

from pathlib import Path
from typing import Annotated

import typer

from stages.core.errors import ParamsError

EXAMPLE = "fastdrive demo --seed 13 --out demo.png"
PERCENTS = (25, 50, 75)


def demo(
    out: Annotated[Path, typer.Option(help="PNG to write; its numbers go beside it as JSON.")] = Path("demo.png"),
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn scene.")] = 1,
    percent: Annotated[int, typer.Option(help="Prune ratio of the plan that is drawn: 25, 50 or 75.")] = 50,
) -> None:
    """Draw a frame; show mask, saliency, kept tokens, reconstructions and plan with the committed weights.

    Takes seconds on a CPU.
    """
    check_out(out)
    if percent not in PERCENTS:
        fix = "run `fastdrive demo --percent 50`"
        raise ParamsError(expected=f"--percent of {', '.join(map(str, PERCENTS))}", got=str(percent), fix=fix)
    from stages.cli.pictures import draw_demo  # torch takes seconds to import: wrong options are refused before

    numbers = draw_demo(out, seed, percent, PERCENTS)
    kept, ratio = len(numbers["kept"][str(percent)]), numbers["flops_ratio"][str(percent)]
    json_file = out.with_suffix(".json")
    typer.echo(f"{kept} of {numbers['tokens']} tokens kept, {ratio:.2f} x fewer FLOPs; numbers: {json_file}")
    typer.echo(f"{out}\nnext: fastdrive prune IMAGE --pruner models/demo")


def check_out(out: Path) -> None:
    """Raise ParamsError for a picture that the numbers beside it would overwrite."""
    if out == out.with_suffix(".json"):
        fix = f"give `--out {out.with_suffix('.png')}`"
        raise ParamsError(expected="an --out for the picture; its numbers go beside it as JSON", got=str(out), fix=fix)
