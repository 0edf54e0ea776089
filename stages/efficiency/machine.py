"""What a measurement was taken on: packages, commit, processor and GPU with their clocks, load."""

import os
import platform
import resource
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import torch

from stages.core.provenance import lineage

CPU_INFO = Path("/proc/cpuinfo")
SMI = {  # what nvidia-smi is asked, by our name
    "driver": "driver_version",
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
}


def machine() -> dict[str, Any]:
    """Facts that hold while a process measures."""
    tags = lineage(Path(), "profile_efficiency")
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "cpu": _cpu_model(),
        "commit": tags.get("git.commit"),
        "uncommitted_edits": {"true": True, "false": False}.get(tags.get("git.dirty", "")),
        **_gpu(),
    }


def clocks() -> dict[str, Any]:
    """Clocks, load and, on a GPU, power at this moment. Nothing is set: a shared machine is measured as it is."""
    mhz = [float(value) for value in _cpu_lines("cpu MHz")]
    now = {"cpu_mhz": statistics.median(mhz) if mhz else None, "load_1_min": os.getloadavg()[0]}
    return now | (asked_of_smi(_smi()) if torch.cuda.is_initialized() else {})


def resident_peak_bytes() -> int:
    """The most memory that this process ever held: weights, packages and data, whatever was measured last."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def asked_of_smi(line: str) -> dict[str, Any]:
    """One line of nvidia-smi's csv by name; numbers as numbers, and what it does not tell left out."""
    values = [value.strip() for value in line.split(",")]
    told = dict(zip(SMI, values, strict=False)) if len(values) == len(SMI) else {}
    return {name: value if name == "driver" else _number(value) for name, value in told.items() if _told(name, value)}


def _told(name: str, value: str) -> bool:
    return bool(value) and (name == "driver" or _number(value) is not None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _gpu() -> dict[str, Any]:
    if not torch.cuda.is_initialized():
        return {}
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = asked_of_smi(_smi()).get("driver")
    return {"gpu": about.name, "gpu_memory_bytes": about.total_memory, "cuda": torch.version.cuda, "gpu_driver": driver}


def _smi() -> str:
    """The line of the GPU in use; empty where nvidia-smi is not there or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    asked = [f"--query-gpu={','.join(SMI.values())}", "--format=csv,noheader,nounits"]
    uuid = str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))
    chosen = ["-i", uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"] if uuid else []
    try:
        found = subprocess.run([program, *chosen, *asked], capture_output=True, text=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return ""
    return found.stdout.strip().split("\n")[0]


def _cpu_model() -> str:
    names = _cpu_lines("model name")
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def _cpu_lines(key: str) -> list[str]:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
