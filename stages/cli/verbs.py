"""Options of the verbs whose work is done elsewhere: in the files beside this one, by a flow, or by DVC."""

import os
import sys
import webbrowser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from stages.cli import hand_over
from stages.core.errors import DataError, ParamsError
from stages.core.graph import open_graph
from stages.core.provenance import git_says

PERCENTS = (25, 50, 75)  # of the demo
Picture = Annotated[Path, typer.Option(help="PNG to write; its numbers go beside it as JSON.")]


def demo(
    out: Picture = Path("demo.png"),
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn scene.")] = 1,
    percent: Annotated[int, typer.Option(help="Prune ratio of the plan that is drawn: 25, 50 or 75.")] = 50,
) -> None:
    """Draw a frame; show mask, saliency, kept tokens, reconstructions and plan with the committed weights."""
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
    out: Picture = Path("kept.png"),
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
    from stages.cli.pictures import draw_kept

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
        with open_graph(Path.cwd()) as repo:
            stale = repo.status("make_report")
        text = f", older than its inputs\nnext: `{made_by}`" if stale else "\nnext: open it in a browser"
        typer.echo(f"{page}{text}")
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


# Verbs that become another command


def reproduce(
    flow: Annotated[bool, typer.Option("--flow", help="As a Prefect flow, seen in its UI.")] = False,
) -> None:
    """Run what changed since it last ran, as `make reproduce` does; killed, the same command goes on."""
    if flow:
        hand_over("flows.reproduce")
        return
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for dvc.yaml's `python`
    hand_over("dvc", "repro")


def register(
    pruner: Annotated[str, typer.Argument(help="One of grid.trained in params.yaml.")] = "recon",
) -> None:
    """Make a trained pruner a version of the registered model, with the alias `candidate`; commit dvc.lock first."""
    hand_over("stages.registry.register", "--", pruner)


def retrain(
    when: Annotated[str, typer.Option(help="changed, or drift: only if the champion's numbers drifted.")] = "changed",
    pruner: Annotated[str, typer.Option(help="The trained row that becomes a candidate.")] = "recon",
) -> None:
    """In a clone, make anew what new scenes or code call for; push, commit on a branch, register a candidate."""
    hand_over("flows.retrain", f"--when={when}", f"--pruner={pruner}")


def serve() -> None:
    """Start MLflow, Prefect and a worker on this machine, until Ctrl-C; `infra/serve.sh` has the settings."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.execv("/bin/bash", ["bash", "infra/serve.sh"])


def lineage(
    name: Annotated[str, typer.Argument(help="MLflow run, version or alias, commit, DVC hash, Prefect run.")],
) -> None:
    """Print all other names of one state, and the commands that bring a clone to it."""
    commit = git_says(Path.cwd(), "rev-parse", "--verify", "-q", name) if name.startswith("HEAD") else ""
    hand_over("stages.registry.lineage", "--", commit or name)


def promote(
    version: Annotated[str, typer.Option(help="Number or alias of the version.")] = "candidate",
    approve: Annotated[str, typer.Option(metavar="REASON", help="Approve it now; else a form in Prefect asks.")] = "",
    by: Annotated[str, typer.Option(help="Who approves; you, when left out.")] = "",
    auto: Annotated[bool, typer.Option("--auto", help="Ask nobody, where registry.auto allows it.")] = False,
) -> None:
    """Judge a version by the gate and, when it passed and a person approved, make it champion.

    A refusal prints the gate's table and ends with 5.
    """
    _require(version, "fastdrive register recon")
    words = [f"--version={version}", f"--approve={approve}", f"--by={by}", *(["--auto"] if auto else [])]
    hand_over("flows.promote", *words)


def _require(version: str, fix: str) -> None:
    """Raise DataError for an alias that this checkout's store does not have, before Prefect and MLflow are imported."""
    from stages.core.params import read_params
    from stages.core.tracking import local_aliases

    name = read_params().registry.name
    aliases = local_aliases(name)
    if aliases is not None and not version.isdigit() and version not in aliases:
        known = ", ".join(f"{alias} = {number}" for alias, number in aliases.items()) or "no version with an alias"
        raise DataError(expected=f"a version {version} of {name}", got=known, fix=f"`{fix}`")


def rollback(
    reason: Annotated[str, typer.Option(help="Kept on the version that goes.")],
    by: Annotated[str, typer.Option(help="Who decides; you, when left out.")] = "",
    champion: Annotated[str, typer.Option(help="Number of the version that is to go; the champion's.")] = "",
) -> None:
    """Make the version with the alias `previous` champion again; who, when and why are kept on both."""
    _require("previous", "fastdrive promote")
    hand_over("flows.rollback", f"--reason={reason}", f"--by={by}", f"--champion={champion}")
