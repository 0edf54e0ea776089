"""What this machine can do at most, measured in the run that it is a yardstick for: products and copies."""

from dataclasses import dataclass

import torch

from stages.efficiency.latency import interleave

SIDE = {"cuda": 8192, "cpu": 1024}  # of a square product
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**27}  # far beyond any cache
READINGS = 5


@dataclass(frozen=True)
class Ceilings:
    """Measured, of one dtype, with as many threads as the run has."""

    dtype: str
    matmul_flops_per_s: float  # 2 per multiply-add
    copy_bytes_per_s: float  # read and written together


def ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Medians over a few readings on random numbers: a product of zeros takes less power and so runs faster."""
    n, size = SIDE[device.type], COPIED_BYTES[device.type]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    source = torch.randn(size // 4, device=device).view(torch.uint8)
    target = torch.empty_like(source)
    timings = interleave({"matmul": lambda: a @ b, "copy": lambda: target.copy_(source)}, READINGS, warmups=1)
    return Ceilings(
        str(dtype).removeprefix("torch."),
        2 * n**3 / (timings["matmul"].median_ms / 1e3),
        2 * size / (timings["copy"].median_ms / 1e3),
    )


def share(amount: float | int, ms: float, per_s: float) -> float:
    """What part of a ceiling was reached by `amount` (FLOPs or bytes) in `ms`."""
    return amount / (ms / 1e3) / per_s
