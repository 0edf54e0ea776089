"""Milliseconds of interleaved variants in one process, so that a noisy machine slows all of them alike.

A single reading is worth nothing on a shared machine (research/efficiency.md 7): every round calls each variant once,
the baseline a second time (A/A), and starts one variant further on; what counts is the ratio of medians with its
interval.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.progress import progress
from stages.efficiency.machine import clocks, machine, resident_peak_bytes
from stages.efficiency.memory import counted_by, peak_bytes

Call = Callable[[], object]
AGAIN = "again"  # the baseline measured a second time: differences as small as its own are none
RESAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one variant."""

    samples_ms: NDArray[np.float64]

    @property
    def median_ms(self) -> float:
        return float(np.median(self.samples_ms))

    def to_dict(self) -> dict[str, float | int]:
        """Median, 10th and 90th percentile, and how many were measured."""
        p10, p90 = np.percentile(self.samples_ms, [10, 90])
        return {"median_ms": self.median_ms, "p10_ms": float(p10), "p90_ms": float(p90), "n": len(self.samples_ms)}


@dataclass(frozen=True)
class Speedup:
    """How many times faster a variant is than the baseline: ratio of medians, 95 % bootstrap interval over rounds."""

    ratio: float
    low: float
    high: float


def interleave(variants: Mapping[str, Call], pairs: int, warmups: int = 3) -> dict[str, Timing]:
    """Time each variant `pairs` times, in rounds; the first is the baseline and comes back a second time as `again`.

    Timed by CUDA events when a GPU is in use, by the process clock otherwise.
    """
    baseline = next(iter(variants.values()))
    calls = {**variants, AGAIN: baseline}
    for call in calls.values():
        for _ in range(warmups):
            call()
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for round_index in range(pairs):
        start = round_index % len(names)
        for name in names[start:] + names[:start]:
            samples[name].append(measure_ms(calls[name]))
    return {name: Timing(np.array(values)) for name, values in samples.items()}


def speedups(timings: Mapping[str, Timing], seed: int) -> dict[str, Speedup]:
    """Each variant against the first; for `again`, what this machine calls no difference."""
    baseline, *others = timings
    return {name: speedup(timings[baseline], timings[name], seed) for name in others}


def speedup(baseline: Timing, variant: Timing, seed: int) -> Speedup:
    """Ratio of the medians of two variants that were measured in the same rounds."""
    a, b = baseline.samples_ms, variant.samples_ms
    rounds = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[rounds], axis=1) / np.median(b[rounds], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Speedup(baseline.median_ms / variant.median_ms, float(low), float(high))


def aa_spread(again: Speedup) -> float:
    """How far from 1 the ratio of the baseline to itself may be: what this machine calls no difference, as a factor."""
    return max(again.high, 1 / again.low, again.ratio, 1 / again.ratio)


def differs(found: Speedup, spread: float) -> bool:
    """Is a variant's ratio beyond the A/A spread, and its own interval clear of 1?"""
    return max(found.ratio, 1 / found.ratio) > spread and not found.low <= 1 <= found.high


def measure(phases: Mapping[str, Mapping[str, Call]], pairs: int, seed: int) -> dict[str, Any]:
    """Timings, speed-ups and memory by phase and variant, with the machine; variants of a phase are interleaved."""
    record, before = {}, clocks()
    for phase, variants in progress(phases.items(), len(phases), "measure latency"):
        record[phase] = _measure_phase(variants, pairs, seed)
    return {
        "machine": machine(),
        "clocks": {"before": before, "after": clocks()},
        "memory": {"peak_bytes_are": counted_by(), "resident_peak_bytes": resident_peak_bytes()},
        "phases": record,
    }


def _measure_phase(variants: Mapping[str, Call], pairs: int, seed: int) -> dict[str, Any]:
    timings = interleave(variants, pairs)
    found = speedups(timings, seed)
    spread = aa_spread(found[AGAIN])
    return {
        "timings": {name: timing.to_dict() for name, timing in timings.items()},
        "speedups": {name: asdict(ratio) | {"differs": differs(ratio, spread)} for name, ratio in found.items()},
        "aa_spread": spread,
        "peak_bytes": {name: peak_bytes(call) for name, call in variants.items()},
    }


def measure_ms(call: Call) -> float:
    """One reading: by CUDA events when a GPU is in use, by the process clock otherwise."""
    if torch.cuda.is_initialized():
        return _measure_on_gpu_ms(call)
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def _measure_on_gpu_ms(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
