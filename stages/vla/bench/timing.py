"""Variants against each other within some seconds; one that does not run here is named, and the others go on."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from stages.efficiency.latency import interleave, measure_ms, speedups

Call = Callable[[], object]
SEED, WARMUPS = 0, 5
FEWEST, MOST = 5, 50  # rounds


@dataclass
class Variants:
    """Calls to be compared, by name; the first is the baseline."""

    calls: dict[str, Call] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Call]) -> bool:
        """Make a variant and run it once; does it run? What a machine cannot run is a result, and no reason to stop."""
        try:
            call = make()
            call()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            return False
        self.calls[name] = call
        return True


def timed(variants: Variants, seconds: float) -> dict[str, Any]:
    """Median, p10 and p90 of each variant, ratios to the first with intervals, `again` among them: the A/A spread.

    With no seconds each is called a few times only, to see that it runs.
    """
    calls = variants.calls
    if not calls:
        return {"failed": variants.failed}
    round_s = sum(measure_ms(call) for call in calls.values()) / 1e3
    rounds = min(MOST, max(FEWEST, int(seconds / max(round_s, 1e-6)) - WARMUPS)) if seconds else 2
    began = time.perf_counter()
    timings = interleave(calls, rounds, WARMUPS if seconds else 0)
    return {
        "baseline": next(iter(calls)),
        "timings": {name: timing.to_dict() for name, timing in timings.items()},
        "ratios": {name: asdict(found) for name, found in speedups(timings, SEED).items()},
        "failed": variants.failed,
        "seconds": time.perf_counter() - began,
    }
