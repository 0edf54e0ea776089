"""Versions and machine, for an issue."""

import os
import platform
import re
import sys
from pathlib import Path

import typer

from stages.cli.doctor import changed_files, installed
from stages.core.provenance import git_says, hardware
from stages.core.secrets import masked

EXAMPLE = "fastdrive info"
SHOWN = ("torch", "transformers", "deepspeed", "dvc", "mlflow", "prefect", "fastapi", "numpy", "pydantic", "ray")
SETTINGS = r"FASTDRIVE_\w+|MLFLOW_TRACKING_URI|PREFECT_API_URL|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|DS_\w+"


def info() -> None:
    """Print what a report of a fault needs: versions, machine, commit, state of DVC; passwords masked."""
    root, driver = Path.cwd(), Path("/proc/driver/nvidia/version")
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if re.fullmatch(SETTINGS, name)]
    lock = (root / "dvc.lock").read_text(encoding="utf-8") if (root / "dvc.lock").is_file() else ""
    stages = len(re.findall(r"^  \S.*:$", lock, re.MULTILINE))
    rows = {
        "fastdrivevla": f"{installed('fastdrivevla') or '-'}, {f'commit {commit}' if commit else 'no git'}",
        "changed files": changed_files(root) or "none",
        "python": f"{platform.python_version()} in {sys.prefix}",
        "packages": ", ".join(f"{name} {installed(name) or '-'}" for name in SHOWN),
        "machine": f"{platform.platform()}, {hardware()}",
        "gpu driver": driver.read_text(encoding="utf-8").splitlines()[0] if driver.is_file() else "none",
        "dvc": f"dvc.lock with {stages} stages" if stages else "no dvc.lock",
        "runs not sent to MLflow": str(len(list((root / "runs/unsent").glob("*.jsonl")))),
        "settings": ", ".join(settings) or "none",
    }
    typer.echo(masked("\n".join(f"{name}: {value}" for name, value in rows.items())))
