"""Speed of grounded_sam at full size: images/s by model sizes and batch, with random weights on 1600 x 900 images.

The first number is of the whole way, as the stage goes it: JPEGs on disk -> a shard on disk, reading ahead of the
models and PNGs made behind them. Beside it stands what each part can do alone: reading, models, writing. The slowest
one sets the pace. Weights are random: speed does not depend on them, save by the number of boxes (--boxes).

    python -m stages.masks.bench
"""

import argparse
import datetime
import importlib.metadata
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from stages.errors import InputError
from stages.files import write_json
from stages.lineage import lineage
from stages.masks.base import Mask
from stages.masks.bench_models import BERT_BASE, PHRASES, random_pipeline, write_photos, write_text_encoder
from stages.masks.grounding import dino, sam
from stages.masks.grounding.devices import chosen
from stages.masks.grounding.pipeline import Pipeline
from stages.masks.grounding.pixels import read_batch
from stages.masks.writing import THREADS, write_shard
from stages.scenes.base import Camera

ROOT = Path(__file__).parents[2]
SIZE_PX = (1600, 900)
GOAL = "goal: at least 20 images/s on one H200, against 0.33 in the paper"
EXAMPLE = "example, on a GPU: python -m stages.masks.bench --sam vit_h,vit_l,vit_b --batch 1,8,16 --out speed.json"
BATCHES = 4  # of a run of the whole way: the first one has nobody ahead of it, the last one nobody behind
HEAD = (
    f"{'dino':8}{'sam':7}{'batch':>6}{'images/s':>10}{'min-max':>16}{'read':>9}{'models':>9}{'write':>9}"
    f"{'detector %':>12}{'GB':>7}"
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, defaults filled in by the machine."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        prog="python -m stages.masks.bench", description=(__doc__ or "").split("\n")[0], epilog=EXAMPLE
    )
    parser.add_argument("--device", default="cuda" if gpu else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16" if gpu else "fp32")
    parser.add_argument("--sam", default="vit_h,vit_l,vit_b" if gpu else "vit_b", help="sizes, commas between")
    parser.add_argument("--dino", default="swin_t,swin_b" if gpu else "swin_t", help="sizes, commas between")
    parser.add_argument("--batch", default="1,8,16" if gpu else "1", help="images at once, commas between")
    parser.add_argument("--boxes", type=int, default=20, help="of an image")
    parser.add_argument("--seconds", type=float, default=10.0, help="of runs for each number; at least three runs")
    parser.add_argument("--commit", help="of this code, where git is not at hand")
    parser.add_argument("--out", type=Path, help="JSON")
    asked = parser.parse_args(arguments)
    try:
        asked.batch = [int(n) for n in asked.batch.split(",")]
    except ValueError:
        parser.error(f"--batch: wanted numbers with commas between; got {asked.batch}")
    for name, known in (("sam", sam.SOURCES), ("dino", dino.SOURCES)):
        setattr(asked, name, getattr(asked, name).split(","))
        if odd := [size for size in getattr(asked, name) if size not in known]:
            parser.error(f"--{name}: wanted some of {', '.join(known)}; got {', '.join(odd)}")
    return asked


def machine(device: torch.device, commit: str | None) -> dict[str, Any]:
    """Date, commit, versions and hardware."""
    tags = lineage(ROOT, "")
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": tags.get("git.commit", commit or "unknown"),
        "uncommitted_changes": {"true": True, "false": False}.get(tags.get("git.dirty", "")),
        "python": platform.python_version(),
        "hardware": tags["hardware"],
        "threads": torch.get_num_threads(),
        "png_threads": THREADS,
        "device": device.type,
    }
    for name in ("torch", "torchvision", "transformers", "segment-anything", "groundingdino-py"):
        facts[name] = importlib.metadata.version(name)
    if device.type == "cuda":
        facts |= {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return facts


def seconds_of(work: Callable[[], object], device: torch.device, at_least_s: float) -> list[float]:
    """Seconds of single runs, after one to warm up: three or more, until they fill `at_least_s`."""
    work()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < at_least_s:
        _wait_for(device)
        began_s = time.perf_counter()
        work()
        _wait_for(device)
        taken.append(time.perf_counter() - began_s)
    return taken


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(pipeline: Pipeline, cameras: Sequence[Camera], seconds: float, shard: Path) -> dict[str, Any]:
    """One row: images/s of the whole way into `shard`, and of each part alone."""
    device, B = pipeline.detector.device, len(cameras)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    images = read_batch(cameras)
    masks = pipeline.annotate(images)

    def write(batches: Iterable[list[Mask]]) -> None:
        found = (mask for batch in batches for mask in batch)
        write_shard(shard, ((f"{number:06d}", mask) for number, mask in enumerate(found)))

    whole = seconds_of(lambda: write(pipeline.stream([cameras] * BATCHES)), device, seconds)
    writing_s = statistics.median(seconds_of(lambda: write([masks] * BATCHES), device, seconds / 4))
    reading_s = statistics.median(seconds_of(lambda: read_batch(cameras), device, seconds / 4))
    models_s = statistics.median(seconds_of(lambda: pipeline.annotate(images), device, seconds))
    on_device = images.to(device)
    finder_s = statistics.median(seconds_of(lambda: pipeline.detector.find(on_device), device, seconds / 2))
    return {
        "batch": B,
        "boxes_per_image": sum(len(mask.phrases) for mask in masks) / B,
        "runs": len(whole),
        "images_per_s": BATCHES * B / statistics.median(whole),
        "images_per_s_min": BATCHES * B / max(whole),
        "images_per_s_max": BATCHES * B / min(whole),
        "read_images_per_s": B / reading_s,
        "models_images_per_s": B / models_s,
        "write_images_per_s": BATCHES * B / writing_s,
        "detector_share": finder_s / models_s,
        "memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
    }


def row_of(pipeline: Pipeline, cameras: Sequence[Camera], seconds: float) -> dict[str, Any]:
    """As `measure`; what came instead where memory does not suffice."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measure(pipeline, cameras, seconds, Path(folder) / "shard.tar")
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        return {"batch": len(cameras), "error": str(error).splitlines()[0]}


def line_of(row: dict[str, Any]) -> str:
    """A line of the table."""
    first = f"{row['dino']:8}{row['sam']:7}{row['batch']:6}"
    if "error" in row:
        return f"{first}  {row['error']}"
    spread = f"{row['images_per_s_min']:.2f}-{row['images_per_s_max']:.2f}"
    parts = "".join(f"{row[f'{part}_images_per_s']:9.2f}" for part in ("read", "models", "write"))
    memory = "-" if row["memory_gb"] is None else f"{row['memory_gb']:.1f}"
    return f"{first}{row['images_per_s']:10.3f}{spread:>16}{parts}{100 * row['detector_share']:12.0f}{memory:>7}"


def header(asked: argparse.Namespace, facts: dict[str, Any]) -> str:
    """On what it runs, what that says nothing of, and the columns."""
    first = f"{asked.dtype} on {facts['device']} ({facts['hardware']}, {facts['threads']} threads), {asked.boxes} boxes"
    if torch.device(asked.device).type != "cuda":
        first += "; no GPU: nothing of the goal is shown here"
    return "\n".join([first, GOAL, HEAD])


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a line for each pair of models and batch, and write the JSON."""
    asked = parse(arguments)
    device = chosen(asked.device)
    facts, rows = machine(device, asked.commit), list[dict[str, Any]]()
    settings = {"dtype": asked.dtype, "boxes": asked.boxes, "size_px": SIZE_PX, "seconds": asked.seconds}
    print(header(asked, facts), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        photos, bert = write_photos(Path(folder), max(asked.batch), SIZE_PX), Path(folder) / "bert"
        write_text_encoder(bert, [name for some in PHRASES.values() for name in some], BERT_BASE)
        for dino_size in asked.dino:
            for sam_size in asked.sam:
                pipeline = random_pipeline(dino_size, sam_size, asked.boxes, device, asked.dtype == "bf16", bert)
                for batch in asked.batch:
                    row = row_of(pipeline, photos[:batch], asked.seconds)
                    rows.append({"dino": dino_size, "sam": sam_size, **row})
                    print(line_of(rows[-1]), flush=True)
                    if asked.out:  # now, so that what was measured is there should memory end
                        write_json(asked.out, {"machine": facts, "settings": settings, "rows": rows})


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
