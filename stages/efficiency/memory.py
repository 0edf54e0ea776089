"""The most memory that a call holds at once, above what was there before it.

On a GPU the allocator knows. On a CPU no allocator of torch counts, tracemalloc sees Python's objects alone, and the
process's high-water mark never falls and moves by pages: there the storages that the call's operators make are added up
while they live, which is the same number every time. What a kernel takes for itself is not in it.
"""

from collections.abc import Callable

import torch

from stages.efficiency.traced import trace

ON_GPU = "torch.cuda.max_memory_allocated"
ON_CPU = "storages of dispatched operators"


def counted_by() -> str:
    """How `peak_bytes` counts here."""
    return ON_GPU if torch.cuda.is_initialized() else ON_CPU


def peak_bytes(call: Callable[[], object]) -> int:
    """Bytes that `call` holds at once, results included."""
    if not torch.cuda.is_initialized():
        return trace(call).peak_bytes
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before
