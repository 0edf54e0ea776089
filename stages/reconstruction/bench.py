"""Training speed at the true shapes: images/s, MFU and data wait by tokens an image, with and without cached tokens.

The engine's pure pieces in plain torch on one process, without DeepSpeed and without the numbers that the training loop
reads at each step. MFU: FLOPs of `work.py` that are needed (not what is recomputed) / seconds / FLOP/s of a large
product in the same process. Wait: the share of the time in which the host waited for the processes that read 1600 x 900
JPEGs, masks and cached tokens. Control: the same steps behind a reader that costs nothing.
"""

import argparse
import math
import os
import re
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from stages.backbone.patches import TOKEN_PX
from stages.efficiency.shapes import PAPER_MODEL
from stages.errors import MachineError
from stages.files import read_json, write_json
from stages.reconstruction.bench_data import PHOTOS, Photos, RandomSamples, absent, photo_samples, write_photos
from stages.reconstruction.bench_machine import ROOT, machine, peak_flops
from stages.reconstruction.bench_step import Run, Trainee, options_of, run_steps
from stages.reconstruction.data import Samples, View
from stages.reconstruction.work import Work

SHAPES = {  # config.json of the model, params of the training, tokens an image
    "3b": (PAPER_MODEL, Path("infra/params/paper.yaml"), (64, 256, 576, 1024, 3249)),
    "tiny": (Path("models/driver/config.json"), Path("params.yaml"), (64, 256)),
}
TOKENS_A_STEP = {
    "cuda": 16384,
    "cpu": 2048,
}  # by default; on a GPU 64 images of 256 tokens, as research/efficiency.md 4
PEAK_SIDE = {"cuda": 8192, "cpu": 1024}
SOURCES = {"tower": False, "cache": True}  # of the tokens: are they cached?
SETTINGS = ("decoder_layers", "decoder_width", "pixels_per_token", "bf16", "recompute")
GOALS = "goals on one H200, 256 tokens: at least 100 images/s from the tower, 170 from the cache, wait below 2 %"
EXAMPLE = "example, on a GPU: python -m stages.reconstruction.bench --tokens 64,256,576,1024,3249 --seconds 10"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, defaults filled in by the machine: 3b on a GPU, tiny without one."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        prog="python -m stages.reconstruction.bench", description=(__doc__ or "").split("\n")[0], epilog=EXAMPLE
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="3b" if gpu else "tiny", help="tiny: the default's")
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--tokens", help="an image, square numbers with commas between; 64,256,576,1024,3249 at 3b")
    parser.add_argument("--seconds", type=float, default=5.0 if gpu else 2.0, help="of steps for each number")
    parser.add_argument("--batch", type=int, help="images a step (16384 tokens on a GPU, 2048 elsewhere)")
    parser.add_argument("--workers", type=int, help="processes that read (as in params, one a core at most)")
    parser.add_argument("--recompute", action="store_true", help="the decoder's activations, for memory")
    parser.add_argument("--commit", help="of this code, where git is not at hand")
    parser.add_argument("--out", type=Path, help="JSON (3b on a GPU: infra/benchmarks/training_<device>.json)")
    asked = parser.parse_args(arguments)
    try:
        asked.tokens = [int(n) for n in asked.tokens.split(",")] if asked.tokens else SHAPES[asked.shape][2]
    except ValueError:
        parser.error(f"--tokens: wanted numbers with commas between; got {asked.tokens}")
    odd = [n for n in asked.tokens if n < 1 or math.isqrt(n) ** 2 != n]
    if odd:
        parser.error(f"--tokens: wanted square numbers, as 64 or 256; got {', '.join(map(str, odd))}")
    return asked


def training_section(file: Path) -> dict[str, Any]:
    """`train_pruner` of a params file, unchecked: a bare GPU machine has no pydantic."""
    import yaml

    section: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["train_pruner"]
    return section


def record_of(run: Run, work: Work, peak: float) -> dict[str, int | float]:
    """The numbers of one run; `peak` in FLOP/s."""
    return {
        "images": run.images,
        "seconds": run.seconds,
        "images_per_s": run.images_per_s,
        "tera_flops_per_s": run.images_per_s * work.done / 1e12,
        "mfu": run.images_per_s * work.needed / peak,
        "data_wait_share": run.wait_share,
        "memory_gb": run.memory_gb,
    }


def bench(trainee: Trainee, photos: Photos | None, N: int, asked: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Both sources of tokens at N tokens an image; `loader` is None where photos cannot be read.

    Raises MachineError when the device's memory is too small.
    """
    side = math.isqrt(N)
    grid, view = (side, side), View((TOKEN_PX * side, TOKEN_PX * side), "stretch", trainee.options.pixels_per_token)
    batch = asked.batch or max(1, TOKENS_A_STEP.get(trainee.device.type, 2048) // N)
    row: dict[str, Any] = {"tokens": N, "size_px": list(view.size_px), "batch": batch}
    for source, cached in SOURCES.items():
        work, found = trainee.work(grid, cached), dict[str, Any](loader=None)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) if cached else None
            try:
                runs: dict[str, Samples] = {"control": RandomSamples(trainee.tower, view, cached=cached)}
                if photos:
                    runs["loader"] = photo_samples(photos, trainee.tower, view, workers=asked.workers, folder=kept)
                for name, samples in runs.items():
                    found[name] = record_of(run_steps(trainee, samples, batch, asked.seconds), work, peak)
            except torch.OutOfMemoryError as error:
                came, then = f"{error}".splitlines()[0], "lower --batch, or add --recompute"
                raise MachineError(wanted=f"memory for {batch} images of {N} tokens", came=came, then=then) from error
        row[source] = {"flops": asdict(work)} | found
        print(line_of(row, source), flush=True)
    return row


HEAD = f"{'tokens':>7}{'batch':>6} {'from':6}{'images/s':>10}{'MFU %':>7}{'wait %':>8}{'control images/s':>18}{'GB':>7}"


def line_of(row: dict[str, Any], source: str) -> str:
    """A line of the table; without a loader its columns hold the control."""
    control, loader = row[source]["control"], row[source]["loader"]
    shown = loader or control
    wait = f"{100 * loader['data_wait_share']:8.2f}" if loader else f"{'-':>8}"
    return (
        f"{row['tokens']:7}{row['batch']:6} {source:6}{shown['images_per_s']:10.2f}{100 * shown['mfu']:7.1f}{wait}"
        f"{control['images_per_s']:18.2f}{shown['memory_gb']:7.1f}"
    )


def out_file(asked: argparse.Namespace, device_name: str) -> Path | None:
    """Where the JSON goes: `--out`, else beside the other records when the true shapes ran on a GPU."""
    if asked.out or asked.shape != "3b" or torch.device(asked.device).type != "cuda":
        out: Path | None = asked.out
        return out
    return ROOT / "infra" / "benchmarks" / f"training_{re.sub(r'[^a-z0-9]+', '_', device_name.lower())}.json"


def require_filter(device: torch.device) -> None:
    """Raises MachineError on a GPU without the package whose filter the loss takes there."""
    if device.type == "cuda" and find_spec("pytorch_msssim") is None:
        wanted, then = "pytorch_msssim, whose filter the loss takes on a GPU", "install pytorch-msssim"
        raise MachineError(wanted=wanted, came="no such package here", then=then)


def header(asked: argparse.Namespace, facts: dict[str, Any]) -> str:
    """On what it runs, what that says nothing of, and the columns."""
    peak = f"peak {facts['peak_tera_flops_per_s']:.3g} TFLOP/s"
    lines = [f"{asked.shape} shapes on {facts['device']} ({facts['hardware']}), {peak}"]
    if torch.device(asked.device).type != "cuda":
        lines[0] += "; no GPU: what follows says nothing of one"
    if missing := absent():
        lines.append(f"no {', '.join(missing)} here: the loader is not measured, images/s are the control's")
    if asked.shape == "3b":
        lines.append(GOALS)
    return "\n".join([*lines, HEAD])


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a line for each number of tokens and source, and write the JSON."""
    asked = parse(arguments)
    device, (config_file, params_file, _) = torch.device(asked.device), SHAPES[asked.shape]
    require_filter(device)
    options = options_of(training_section(params_file), device, asked.recompute)
    cores = os.cpu_count() or 1
    torch.set_num_threads(min(options.threads, cores))
    asked.workers = min(options.workers, cores) if asked.workers is None else asked.workers
    peak = peak_flops(device, PEAK_SIDE.get(device.type, 1024))
    facts = machine(device, asked.commit) | {"peak_tera_flops_per_s": peak / 1e12}
    out, rows = out_file(asked, facts["device"]), list[dict[str, Any]]()
    settings = {name: getattr(options, name) for name in SETTINGS} | {"shape": asked.shape, "workers": asked.workers}
    print(header(asked, facts), flush=True)
    trainee = Trainee(read_json(ROOT / config_file, f"git checkout {config_file}"), options, device)
    with tempfile.TemporaryDirectory() as folder:
        photos = None if absent() else write_photos(Path(folder), PHOTOS)
        for N in asked.tokens:
            rows.append(bench(trainee, photos, N, asked, peak))
            if out:  # now, so that what was measured is there should memory end
                write_json(out, {"machine": facts, "settings": settings, "rows": rows})
    if out:
        print(f"written to {out}")


if __name__ == "__main__":
    main()
