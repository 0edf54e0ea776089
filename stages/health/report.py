"""The block that goes into an issue: versions, machine, commit, state of DVC."""

import os
import platform
import re
import sys
from pathlib import Path

from stages.core.provenance import git_says
from stages.core.secrets import masked
from stages.health.versions import SHOWN, installed, torch_cuda

SETTINGS = re.compile(r"FASTDRIVE_\w+|MLFLOW_TRACKING_URI|PREFECT_API_URL|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|DS_\w+")


def report(root: Path) -> str:
    """Lines of `name: value`, in some tenths of a second: no server is asked, no driver, no package imported."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"{name} {installed(name) or '-'}" for name in SHOWN]
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if SETTINGS.fullmatch(name)]
    rows = {
        "fastdrivevla": f"{installed('fastdrivevla') or 'not installed'}, {_commit(root)}",
        "python": f"{platform.python_version()} in {sys.prefix}",
        "packages": ", ".join(versions),
        "torch for CUDA": torch_cuda() or "-",
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, {memory_gb:.0f} GB",
        "gpu": ", ".join(_cards()) or "none",
        "params.yaml": _profile(root),
        "dvc": _dvc(root),
        "settings": ", ".join(settings) or "none",
    }
    return masked("\n".join(f"{name}: {value}" for name, value in rows.items()))


def _cards() -> list[str]:
    """Models of the cards and the driver, as the kernel module says them."""
    said = [path.read_text(encoding="utf-8") for path in Path("/proc/driver/nvidia/gpus").glob("*/information")]
    cards = [found[1] for text in sorted(said) if (found := re.search(r"^Model:\s*(.+)$", text, re.MULTILINE))]
    version = Path("/proc/driver/nvidia/version")
    driver = re.search(r"\d+\.\d+(\.\d+)?", version.read_text(encoding="utf-8")) if version.is_file() else None
    return cards + ([f"driver {driver[0]}"] if cards and driver else [])


def _commit(root: Path) -> str:
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    changed = len(git_says(root, "status", "--porcelain").splitlines())
    return (f"commit {commit}" + (f", {changed} files changed" if changed else "")) if commit else "no git"


def _profile(root: Path) -> str:
    path = root / "params.yaml"
    if not path.is_file():
        return "absent"
    same = [profile.stem for profile in (root / "infra/params").glob("*.yaml") if _equal(profile, path)]
    edited = git_says(root, "status", "--porcelain", "--", "params.yaml")
    return f"profile {same[0]}" if same else "edited" if edited else "as committed"


def _equal(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _dvc(root: Path) -> str:
    """Size and state of the lock; whether something is being, or was, written."""
    lock = root / "dvc.lock"
    if not lock.is_file():
        return "no dvc.lock"
    stages = len(re.findall(r"^  \S.*:$", lock.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))
    changed = git_says(root, "status", "--porcelain", "--", "dvc.lock")
    waiting = len(list((root / "runs/unsent").glob("*.jsonl")))
    held = (root / ".dvc/tmp/rwlock").is_file() and (root / ".dvc/tmp/rwlock").read_bytes() not in (b"{}", b"")
    parts = [f"dvc.lock with {stages} stages{', not committed' * bool(changed)}", f"{waiting} runs not sent to MLflow"]
    return ", ".join([*parts, *(["rwlock in use"] if held else [])])
