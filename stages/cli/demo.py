"""`fastdrive demo` and `fastdrive prune`: their options; the pictures are in pictures.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from stages.core.errors import DataError, ParamsError

PERCENTS = (25, 50, 75)


def demo(
    out: Annotated[Path, typer.Option(help="PNG to write; its numbers go beside it as JSON.")] = Path("demo.png"),
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn scene.")] = 1,
    percent: Annotated[int, typer.Option(help="Prune ratio of the plan that is drawn: 25, 50 or 75.")] = 50,
) -> None:
    """Draw a frame; show mask, saliency, kept tokens, reconstructions and plan with the committed weights.

    Takes seconds on a CPU.
    """
    _check_out(out)
    if percent not in PERCENTS:
        fix = "run `fastdrive demo --percent 50`"
        raise ParamsError(expected=f"--percent of {', '.join(map(str, PERCENTS))}", got=str(percent), fix=fix)
    from stages.cli.pictures import draw_demo  # torch takes seconds to import: wrong options are refused before

    numbers = draw_demo(out, seed, percent, PERCENTS)
    kept, ratio = len(numbers["kept"][str(percent)]), numbers["flops_ratio"][str(percent)]
    json_file = out.with_suffix(".json")
    typer.echo(f"{kept} of {numbers['tokens']} tokens kept, {ratio:.2f} x fewer FLOPs; numbers: {json_file}")
    typer.echo(f"{out}\nnext: fastdrive prune IMAGE --pruner models/demo")


def prune(
    image: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP of any size.", show_default=False)],
    percent: Annotated[int, typer.Option(min=0, max=99, help="Of the visual tokens that go.")] = 50,
    pruner: Annotated[str, typer.Option(help="Folder, or models:/<name>@<alias> of the registry.")] = "models/recon",
    model: Annotated[Path, typer.Option(help="Qwen2.5-VL whose vision tower sees it.")] = Path("models/driver"),
    out: Annotated[Path, typer.Option(help="PNG to write; its numbers go beside it as JSON.")] = Path("kept.png"),
) -> None:
    """Draw saliency and kept tokens over an image, and count what is saved."""
    _check_out(out)
    if image.resolve() in (out.resolve(), out.with_suffix(".json").resolve()):
        fix = f"give another --out: `fastdrive prune {image} --out kept.png`"
        raise ParamsError(expected="an --out that is not the image itself", got=str(out), fix=fix)
    if not image.is_file():
        fix = "give a JPEG, PNG, WebP or BMP file, as in `fastdrive prune photo.jpg`"
        raise DataError(expected=f"an image file {image}", got="no such file", fix=fix)
    registered = pruner.startswith("models:/")
    if not registered and not Path(pruner).is_dir():
        fix = f"train one with `dvc repro train_pruner`, or `fastdrive prune {image} --pruner models/demo`"
        raise DataError(expected=f"a trained pruner in {pruner}", got="no such folder", fix=fix)
    from stages.cli.pictures import draw_kept  # torch takes seconds to import: wrong options are refused before

    with TemporaryDirectory() as fetched:
        folder = Path(pruner)
        if registered:
            from stages.registry.versions import fetch_model

            folder = fetch_model(pruner, Path(fetched))
        numbers = draw_kept(image, folder, model, percent, out)
    kept, cost = f"{numbers['tokens_kept']} of {numbers['tokens']} tokens kept", numbers["gflops"]
    typer.echo(f"{kept}; {cost['unpruned']} -> {cost['pruned']} GFLOPs; numbers: {out.with_suffix('.json')}\n{out}")


def _check_out(out: Path) -> None:
    """Raise ParamsError for a picture that the numbers beside it would overwrite."""
    if out == out.with_suffix(".json"):
        fix = f"give `--out {out.with_suffix('.png')}`"
        raise ParamsError(expected="an --out for the picture; its numbers go beside it as JSON", got=str(out), fix=fix)
