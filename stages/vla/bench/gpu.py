"""Every phase of a request at the shapes of Qwen2.5-VL-3B, eager and captured, against the goals set for one H200.

    make bench-gpu            or     python -m stages.vla.bench.gpu [--device cpu --small] [--out bench.json]

Random weights made on the device, nothing downloaded; torch, transformers, safetensors and numpy are all it needs.
Under nine minutes. The JSON is written anew after each section, so a run that is cut off is of use.
"""

import argparse
import datetime
import gc
import importlib.metadata
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stages.efficiency.machine import clocks, machine
from stages.efficiency.roofline import ceilings
from stages.errors import InputError, MachineError
from stages.files import write_json
from stages.vla.bench import choices, decoding, phases
from stages.vla.bench.goals import judged, table
from stages.vla.bench.sizes import ROOT, SMALL, TRUE
from stages.vla.bench.subject import Subject

LIMIT_S = 520.0  # of the nine minutes, some for the start
EXAMPLE = "example, without a GPU: python -m stages.vla.bench.gpu --device cpu --small"


@dataclass(frozen=True)
class Section:
    """A part of the benchmark that stands for itself."""

    name: str
    seconds: float  # of timing; captures and compilation come on top
    measure: Callable[[Subject, float], dict[str, Any]]


def ceiling(subject: Subject, seconds: float) -> dict[str, Any]:
    """What the card does at best, measured in this run; it comes from rest, so the readings of a while do not count."""
    began_s, found = time.perf_counter(), ceilings(subject.device, subject.dtype)
    while time.perf_counter() - began_s < seconds / 5:
        found = ceilings(subject.device, subject.dtype)
    return asdict(found)


def in_a_batch(subject: Subject, seconds: float) -> dict[str, Any]:
    """Decoding for many rows at a time."""
    return decoding.decoding(subject, seconds, subject.sizes.batch)


# First what later ones build on, then in the order of how many goals hang on them
SECTIONS = (
    Section("rooflines", 5.0, ceiling),
    Section("prompt_attention", 6.0, choices.prompt_attention),
    Section("one_row_attention", 10.0, choices.one_row),
    Section("prefill", 60.0, phases.reading),
    Section("pruner", 12.0, phases.choosing),
    Section("vision", 60.0, phases.vision),
    Section("decode", 40.0, decoding.decoding),
    Section("first_token", 40.0, phases.first_token),
    Section("decode_batch", 50.0, in_a_batch),
    Section("image_attention", 6.0, choices.image_attention),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.vla.bench.gpu", description=(__doc__ or "").split("\n")[0], epilog=EXAMPLE
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="shapes of a few thousand weights, in seconds")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="after which no section is begun")
    parser.add_argument("--commit", help="of this code, where git is not at hand")
    parser.add_argument("--out", type=Path, help="JSON (at the true shapes: infra/benchmarks/<gpu>-<date>.json)")
    return parser.parse_args(arguments)


def require(device: torch.device) -> None:
    """Raises MachineError when the device is not there."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            wanted="a CUDA device that torch sees",
            came="none",
            then="run `make bench-gpu` on a machine with one, or python -m stages.vla.bench.gpu --device cpu --small",
        )


def facts(device: torch.device, commit: str | None) -> dict[str, Any]:
    """On what it runs."""
    torch.zeros(1, device=device)  # so that a GPU is asked about
    found = machine() | {"transformers": importlib.metadata.version("transformers")}
    return found | {"commit": found.get("commit") or commit or "unknown"}


def out_file(asked: argparse.Namespace, about: dict[str, Any], day: datetime.date) -> Path | None:
    """Where the JSON goes; None for small shapes, unless it was asked for."""
    if asked.out or asked.small or "gpu" not in about:
        out: Path | None = asked.out
        return out
    card = re.sub(r"[^a-z0-9]+", "_", about["gpu"].lower()).strip("_")
    return ROOT / "infra" / "benchmarks" / f"{card}-{day:%Y-%m-%d}.json"


def run_section(section: Section, subject: Subject, scale: float) -> dict[str, Any]:
    """What it measured, or why it could not; its memory is free again afterwards."""
    began = time.perf_counter()
    try:
        with torch.inference_mode():
            found = section.measure(subject, section.seconds * scale)
    except Exception as error:  # the other sections still have something to say
        found = {"failed": {"section": f"{type(error).__name__}: {error}".split("\n")[0][:300]}}
    gc.collect()  # a captured step and what it reads refer to each other
    if subject.device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return found | {"wall_s": time.perf_counter() - began}


def line_of(name: str, found: dict[str, Any]) -> str:
    """What a section found, in one line."""
    medians = [f"{variant} {row['median_ms']:.3g}" for variant, row in found.get("timings", {}).items()]
    failed = [f"{variant}: {why}" for variant, why in found.get("failed", {}).items()]
    return f"[{found['wall_s']:5.1f} s] {name}: " + ", ".join(medians) + "".join(f"; no {told}" for told in failed)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure section by section, print a line for each and the table of goals; the record."""
    asked = parse(arguments)
    device, began = torch.device(asked.device), time.perf_counter()
    require(device)
    if device.type == "cpu":
        torch.set_num_threads(1)  # small shapes are slower on more
    about, today = facts(device, asked.commit), datetime.datetime.now(datetime.UTC).date()
    sizes, scale = (SMALL, 0.0) if asked.small else (TRUE, 1.0)
    record: dict[str, Any] = {"shape": sizes.name, "device": device.type, "date": f"{today}", "machine": about}
    record |= {"sizes": asdict(sizes), "clocks": {"before": clocks()}, "sections": {}}
    out = out_file(asked, about, today)
    subject = Subject(sizes, device)
    if device.type == "cuda":
        record["not_compiled"] = subject.try_compiled()
    print(f"{sizes.name} shapes on {about.get('gpu') or about['cpu']}", flush=True)
    for section in SECTIONS:
        if time.perf_counter() - began + section.seconds * scale > asked.seconds:
            record["sections"][section.name] = {"failed": {"section": "no time was left"}, "wall_s": 0.0}
        else:
            record["sections"][section.name] = run_section(section, subject, scale)
        print(line_of(section.name, record["sections"][section.name]), flush=True)
        record["clocks"]["after"], record["goals"] = clocks(), judged(record)
        record["seconds"] = time.perf_counter() - began
        if out:
            write_json(out, record)
    print(table(record["goals"]))
    if out:
        print(f"written to {out}")
    return record


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
