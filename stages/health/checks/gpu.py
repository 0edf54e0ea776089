"""The GPU, its driver, and the CUDA that torch was built for; torch is not imported."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from stages.health.finding import Finding
from stages.health.versions import torch_cuda

QUESTION = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits"]
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}  # by major version of CUDA: NVIDIA's table of minor version compatibility


def check(root: Path) -> Iterator[Finding]:
    """A finding per card; none is no fault, since the embedded default runs on the CPU."""
    cards, fault = _cards()
    cuda = torch_cuda()
    if fault:
        then = "`nvidia-smi` must answer: mend the driver, or hide the card by CUDA_VISIBLE_DEVICES="
        yield Finding("gpu", "warn", fault, "an answer of nvidia-smi, as /dev has a card", then)
    elif not cards:
        yield Finding("gpu", "ok", "none; the embedded default needs none")
    for name, driver, total_mib, used_mib in cards:
        came = f"{name}, {total_mib} MiB ({used_mib} used), driver {driver}, torch for CUDA {cuda or '- (no build)'}"
        oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0] or 0), 0) if cuda else 0
        if not cuda:
            yield Finding("gpu", "warn", came, "a torch with CUDA", "install torch with CUDA from requirements.lock")
        elif int(driver.split(".")[0]) < oldest:
            yield Finding("gpu", "bad", came, f"driver {oldest} or later", "update the driver, then `nvidia-smi`")
        else:
            yield Finding("gpu", "ok", came)


def _cards() -> tuple[list[list[str]], str]:
    """Name, driver, memory and what of it is used, in MiB, of each card; or why nobody says it."""
    try:
        answer = subprocess.run(QUESTION, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        return [], "no nvidia-smi" if Path("/dev/nvidiactl").exists() else ""
    except subprocess.TimeoutExpired:
        return [], "nvidia-smi is silent for 10 s"
    if answer.returncode:
        return [], (answer.stdout + answer.stderr).strip().splitlines()[0] if Path("/dev/nvidiactl").exists() else ""
    return [line.split(", ") for line in answer.stdout.splitlines() if line.count(", ") == 3], ""
