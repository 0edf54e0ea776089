"""Each method at the true shapes: N = 3249 tokens of width 2048, random data. Milliseconds, memory, waits.

    python -m stages.efficiency.bench_pruning [--device cuda] [--dtype bfloat16] [--out bench.json] [method ...]

Timed is what a request pays for the choice: score, select, gather of tokens and position ids; methods that look at
attention compute their rows here. What the tower does to be watched (VisPruner, VisionZip) is not in it.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stages.backbone.qwen import QWEN_3B
from stages.efficiency import views
from stages.efficiency.latency import interleave
from stages.efficiency.machine import machine
from stages.efficiency.memory import counted_by, peak_bytes
from stages.efficiency.roofline import ceilings
from stages.efficiency.traced import trace
from stages.files import write_json
from stages.pruning import base
from stages.pruning.base import Pruner, TokenView
from stages.tokens import gather_positions, gather_tokens, keep_count

GRID, TEXT = (57, 57), 100  # tokens of a 1596 x 1596 image, and of the prompt behind it
PERCENTS = (25, 50, 75)
RULERS = ("oracle", "inverse")  # they read a drawn world's files
TRAINED = ("recon", "foreground_only", "mask_prediction")  # one network
ROUNDS, SEED = 5, 0


def random_view(device: torch.device, dtype: torch.dtype) -> TokenView:
    """One image of random tokens with all that a pruner may ask for, at the shapes of Qwen2.5-VL-3B."""
    torch.manual_seed(SEED)
    return views.random_view(QWEN_3B, GRID, TEXT, device, dtype)


def load(name: str) -> Pruner:
    """The pruner `name`; a trained one with random weights at the true width."""
    given = {"seed": 0} if name == "random_keep" else {"checkpoint": ""} if name in TRAINED else {}
    return views.at_shape(base.load(name, given), QWEN_3B)


def choice(pruner: Pruner, view: TokenView, K: int) -> Callable[[], object]:
    """Score, select and gather as one call."""

    def call() -> object:
        kept = pruner.select(view, K)
        return gather_tokens(view.tokens, kept.indices), gather_positions(view.positions, kept.indices)

    return call


@torch.inference_mode()
def bench(name: str, view: TokenView) -> dict[str, Any]:
    """By prune ratio: timings in ms, extra memory in MB, waits for the device; the machine."""
    pruner, N = load(name), view.tokens.shape[1]
    percents = PERCENTS if name != "none" else (0,)
    calls = {str(percent): choice(pruner, view, keep_count(N, percent)) for percent in percents}
    timings = interleave(calls, ROUNDS)
    rows = {percent: timings[percent].to_dict() | _watched(call) for percent, call in calls.items()}
    return {"machine": machine(), "memory": counted_by(), "rows": rows}


def _watched(call: Callable[[], object]) -> dict[str, Any]:
    # In inference mode `item` and `where` are dispatched whole, and what they wait for inside is not seen
    with torch.inference_mode(mode=False), torch.no_grad():
        seen = trace(call)
    held = peak_bytes(call) if torch.cuda.is_initialized() else seen.peak_bytes  # where a GPU's allocator knows better
    return {"extra_mb": held / 1e6, "host_waits": seen.host_waits}


def main() -> None:
    """Measure the methods named, or all, and print a table; `--out` writes it as JSON."""
    known = [name for name in base.available() if name not in RULERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(known)}; all, where none is named")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    unknown = set(asked.methods) - set(known)
    if unknown:
        parser.error(f"wanted methods of {', '.join(known)}; got {', '.join(sorted(unknown))}")
    view = random_view(torch.device(asked.device), getattr(torch, asked.dtype))
    methods = {}
    print(f"{'method':24}{'pruned %':>9}{'ms':>10}{'extra MB':>10}{'host waits':>12}")
    for name in asked.methods or known:
        methods[name] = bench(name, view)
        for percent, row in methods[name]["rows"].items():
            numbers = f"{row['median_ms']:10.1f}{row['extra_mb']:10.1f}{row['host_waits']:12}"
            print(f"{name:24}{percent:>9}{numbers}", flush=True)
    if asked.out:
        ceiling = asdict(ceilings(torch.device(asked.device), getattr(torch, asked.dtype)))
        shapes = {"dtype": asked.dtype, "grid": GRID, "width": QWEN_3B.width, "text_tokens": TEXT}
        write_json(asked.out, {"shapes": shapes, "ceilings": ceiling, "methods": methods})


if __name__ == "__main__":
    main()
