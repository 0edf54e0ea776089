"""The tokens of your own image that a pruner keeps."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from stages.cli.demo import check_out
from stages.core.errors import DataError, ParamsError

EXAMPLE = "fastdrive prune photo.jpg --percent 75 --pruner models/demo"


def prune(
    image: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP of any size.", show_default=False)],
    percent: Annotated[int, typer.Option(min=0, max=99, help="Of the visual tokens that go.")] = 50,
    pruner: Annotated[str, typer.Option(help="Folder, or models:/<name>@<alias> of the registry.")] = "models/recon",
    model: Annotated[Path, typer.Option(help="Qwen2.5-VL whose vision tower sees it.")] = Path("models/driver"),
    out: Annotated[Path, typer.Option(help="PNG to write; its numbers go beside it as JSON.")] = Path("kept.png"),
) -> None:
    """Draw saliency and kept tokens over an image, and count what is saved."""
    check_out(out)
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
