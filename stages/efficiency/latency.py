"""Milliseconds and memory of interleaved variants in one process, so that a noisy machine slows all of them alike.

A single reading is worth nothing on a shared machine (research/efficiency.md 7): every round calls each variant once,
the baseline a second time (A/A), and starts one variant further on; what counts is the ratio of medians with its
interval.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.progress import progress
from stages.core.provenance import lineage

Call = Callable[[], object]
Times = NDArray[np.float64]  # ms, repeated measurements of one variant
AGAIN = "again"  # the baseline measured a second time: differences as small as its own are none
RESAMPLES = 2000
CPU_INFO = Path("/proc/cpuinfo")
SIDE = {"cuda": 8192, "cpu": 1024}  # of a square product
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**27}  # far beyond any cache
READINGS = 5


def interleave(variants: Mapping[str, Call], pairs: int, warmups: int = 3) -> dict[str, Times]:
    """Time each variant `pairs` times, in rounds; the first is the baseline and comes back a second time as `again`."""
    calls = {**variants, AGAIN: next(iter(variants.values()))}
    for call in calls.values():
        for _ in range(warmups):
            call()
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for round_index in range(pairs):
        start = round_index % len(names)
        for name in names[start:] + names[:start]:
            samples[name].append(measure_ms(calls[name]))
    return {name: np.array(values) for name, values in samples.items()}


def speedup(baseline_ms: Times, variant_ms: Times, seed: int) -> dict[str, float]:
    """Return the ratio of the medians of two variants of the same rounds, `low` and `high` of its 95 % interval.

    The interval is that of a bootstrap over rounds.
    """
    rounds = np.random.default_rng(seed).integers(0, len(baseline_ms), (RESAMPLES, len(baseline_ms)))
    ratios = np.median(baseline_ms[rounds], axis=1) / np.median(variant_ms[rounds], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"ratio": float(np.median(baseline_ms) / np.median(variant_ms)), "low": float(low), "high": float(high)}


def aa_spread(again: Mapping[str, float]) -> float:
    """Return how far from 1 the ratio of the baseline to itself may be on this machine, as a factor."""
    return max(again["high"], 1 / again["low"], again["ratio"], 1 / again["ratio"])


def differs(found: Mapping[str, float], spread: float) -> bool:
    """Return True if a variant's speed-up is beyond the A/A spread, and its own interval clear of 1."""
    return max(found["ratio"], 1 / found["ratio"]) > spread and not found["low"] <= 1 <= found["high"]


def measure(phases: Mapping[str, Mapping[str, Call]], pairs: int, seed: int) -> dict[str, Any]:
    """Return timings, speed-ups and memory by phase and variant, with the machine; variants are interleaved.

    On a GPU `peak_bytes` is what the allocator gave at most; on a CPU nothing of torch's counts it, and it is null.
    """
    record, before = {}, os.getloadavg()[0]
    for phase, variants in progress(phases.items(), len(phases), "measure latency"):
        timings = interleave(variants, pairs)
        baseline, *others = timings
        ratios = {name: speedup(timings[baseline], timings[name], seed) for name in others}
        spread = aa_spread(ratios[AGAIN])
        record[phase] = {
            "timings": {name: summary(times) for name, times in timings.items()},
            "speedups": {name: found | {"differs": differs(found, spread)} for name, found in ratios.items()},
            "aa_spread": spread,
            "peak_bytes": {name: peak_bytes(call) for name, call in variants.items()},
        }
    return {
        "machine": machine(),
        "clocks": {"before": {"load_1_min": before}, "after": {"load_1_min": os.getloadavg()[0]}},
        "phases": record,
    }


def summary(times_ms: Times) -> dict[str, float | int]:
    """Median, 10th and 90th percentile, and how many were measured."""
    median, p10, p90 = np.percentile(times_ms, [50, 10, 90]).tolist()
    return {"median_ms": median, "p10_ms": p10, "p90_ms": p90, "n": len(times_ms)}


def measure_ms(call: Call) -> float:
    """One reading: by CUDA events when a GPU is in use, by the process clock otherwise."""
    if not torch.cuda.is_initialized():
        began = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - began)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def peak_bytes(call: Call) -> int | None:
    """Return the bytes that `call` holds at once above what was there before it, results included; None on a CPU."""
    if not torch.cuda.is_initialized():
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before


def machine() -> dict[str, Any]:
    """Return packages, commit, processor and GPU of a measurement."""
    tags = lineage(Path(), "profile_efficiency")
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    cores = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "cpu": f"{cores[0]}, {len(cores)} cores" if cores else platform.processor() or platform.machine(),
        "commit": tags.get("git.commit"),
        "uncommitted_edits": {"true": True, "false": False}.get(tags.get("git.dirty", "")),
    }
    if torch.cuda.is_initialized():
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts |= {"gpu": gpu.name, "gpu_memory_bytes": gpu.total_memory, "cuda": torch.version.cuda}
    return facts


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the most that this machine does, in `dtype` and with as many threads as the run has.

    Medians over a few readings on random numbers: a product of zeros takes less power and so runs faster.
    """
    n, size = SIDE[device.type], COPIED_BYTES[device.type]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    source = torch.randn(size // 4, device=device).view(torch.uint8)
    target = torch.empty_like(source)
    timings = interleave({"matmul": lambda: a @ b, "copy": lambda: target.copy_(source)}, READINGS, warmups=1)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "matmul_flops_per_s": 2 * n**3 / float(np.median(timings["matmul"]) / 1e3),  # 2 per multiply-add
        "copy_bytes_per_s": 2 * size / float(np.median(timings["copy"]) / 1e3),  # read and written together
    }


def share(amount: float | int, ms: float, per_s: float) -> float:
    """Return the part of a ceiling that was reached by `amount` (FLOPs or bytes) in `ms`."""
    return amount / (ms / 1e3) / per_s
