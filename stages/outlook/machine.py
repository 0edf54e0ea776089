"""What this machine has: cores, memory, GPUs and room on the disk."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stages.core.params import Params

PAPER_GPUS = 2  # H800s: what a released driver's stages are told for where there is no GPU


@dataclass(frozen=True)
class Machine:
    """`gpu_memory_bytes` of one of `gpus` equal cards; 0 without."""

    cores: int
    memory_bytes: float
    gpus: int
    gpu_memory_bytes: float
    disk_free_bytes: float

    def gpus_for(self, params: Params) -> int:
        """GPUs that are here, or those that the paper had for a driver that needs them."""
        return self.gpus or (PAPER_GPUS if params.vla.name != "toy" else 1)


def this_machine(root: Path) -> Machine:
    """Read without importing torch."""
    cards = _cards()
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    free = float(shutil.disk_usage(root).free)
    return Machine(os.cpu_count() or 1, memory, len(cards), min(cards, default=0.0), free)


def _cards() -> list[float]:
    """Bytes of each GPU, by nvidia-smi; none where it is not there or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    words = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
        return [float(line) * 2**20 for line in said.split()]
    except (subprocess.SubprocessError, OSError, ValueError):
        return []
