"""What a training benchmark ran on: the machine, its software, and the arithmetic that it reaches at best."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from stages.lineage import lineage
from stages.reconstruction.pace import now_s

ROOT = Path(__file__).parents[2]
SMI = ("driver_version", "clocks.sm", "clocks.max.sm", "power.draw", "power.limit")
PEAK_S = 1.0


def peak_flops(device: torch.device, side: int) -> float:
    """FLOP/s of a product of two random `side` x `side` matrices: bf16 on a GPU, fp32 elsewhere.

    Random, because zeros take less power and so run at a higher clock (research/efficiency.md 7).
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    began_s, count = now_s(device), 0
    while count == 0 or now_s(device) - began_s < PEAK_S:
        for _ in range(10):
            left @ right
        count += 10
    return count * 2 * side**3 / (now_s(device) - began_s)


def machine(device: torch.device, commit: str | None = None) -> dict[str, Any]:
    """Date, commit (`commit` where git is not at hand), versions and hardware; on a GPU also driver and clocks."""
    tags = lineage(ROOT, "")
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": tags.get("git.commit", commit or "unknown"),
        "uncommitted_changes": {"true": True, "false": False}.get(tags.get("git.dirty", "")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "hardware": tags["hardware"],
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        facts |= {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda} | _smi(device)
    return facts


def _smi(device: torch.device) -> dict[str, str]:
    """What nvidia-smi says of the card, with units; nothing where it is not installed."""
    card = str(torch.cuda.get_device_properties(device).uuid)
    command = ["nvidia-smi", f"--id=GPU-{card}", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(SMI, (value.strip() for value in answer.split(",")), strict=True))
