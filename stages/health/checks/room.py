"""Room on the disk, in memory and in /dev/shm."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from stages.health.finding import Finding, State

# Of the embedded default: 0.7 GB of data, results, runs and DVC's cache; its largest process holds about 2 GB.
LEAST_DISK_GB, GOOD_DISK_GB = 1.0, 5.0
GOOD_MEMORY_GB = 4.0
GOOD_SHM_GB = 0.5  # a container has 0.06: too little for the workers of a data loader


def check(root: Path) -> Iterator[Finding]:
    """What is free, against what the embedded default uses."""
    free_gb = shutil.disk_usage(root).free / 1e9
    state: State = "bad" if free_gb < LEAST_DISK_GB else "warn" if free_gb < GOOD_DISK_GB else "ok"
    then = "" if state == "ok" else f"free some space in {root}: `dvc gc -w` drops what no commit here uses"
    yield Finding("room", state, f"{free_gb:.1f} GB of disk free", f"{GOOD_DISK_GB:g} GB", then)
    inodes = os.statvfs(root)
    if inodes.f_files and inodes.f_favail < 50_000:
        yield Finding("room", "warn", f"{inodes.f_favail} inodes free", "50,000", "remove small files: `df -i .`")
    memory_gb = psutil.virtual_memory().available / 1e9
    then = "" if memory_gb >= GOOD_MEMORY_GB else "stop other work: `ps aux --sort=-rss | head`"
    yield Finding(
        "room", "warn" if then else "ok", f"{memory_gb:.1f} GB of memory free", f"{GOOD_MEMORY_GB:g} GB", then
    )
    shm = Path("/dev/shm")
    shm_gb = shutil.disk_usage(shm).total / 1e9 if shm.is_dir() else 0.0
    then = "" if shm_gb >= GOOD_SHM_GB else "start the container with `--shm-size=2g`"
    yield Finding("room", "warn" if then else "ok", f"/dev/shm of {shm_gb:.2f} GB", f"{GOOD_SHM_GB:g} GB", then)
