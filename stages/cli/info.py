"""Versions and machine, for an issue."""

import typer

EXAMPLE = "fastdrive info"
SHOWN = ("torch", "transformers", "deepspeed", "dvc", "mlflow", "prefect", "fastapi", "numpy", "pydantic", "ray")
SETTINGS = r"FASTDRIVE_\w+|MLFLOW_TRACKING_URI|PREFECT_API_URL|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|DS_\w+"


def info() -> None:
    """Print what a report of a fault needs: versions, machine, commit, state of DVC; passwords masked."""
    import os
    import platform
    import re
    import sys
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    from stages.core.provenance import git_says, hardware
    from stages.core.secrets import masked

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "-"

    root, driver = Path.cwd(), Path("/proc/driver/nvidia/version")
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    changed = [line[3:] for line in git_says(root, "status", "--porcelain").splitlines()]
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if re.fullmatch(SETTINGS, name)]
    lock = root / "dvc.lock"
    stages = len(re.findall(r"^  \S.*:$", lock.read_text(encoding="utf-8"), re.MULTILINE)) if lock.is_file() else 0
    rows = {
        "fastdrivevla": f"{installed('fastdrivevla')}, {f'commit {commit}' if commit else 'no git'}",
        "changed files": ", ".join(changed[:10]) + ", ..." * (len(changed) > 10) or "none",
        "python": f"{platform.python_version()} in {sys.prefix}",
        "packages": ", ".join(f"{name} {installed(name)}" for name in SHOWN),
        "machine": f"{platform.platform()}, {hardware()}",
        "gpu driver": driver.read_text(encoding="utf-8").splitlines()[0] if driver.is_file() else "none",
        "dvc": f"dvc.lock with {stages} stages" if stages else "no dvc.lock",
        "runs not sent to MLflow": str(len(list((root / "runs/unsent").glob("*.jsonl")))),
        "settings": ", ".join(settings) or "none",
    }
    typer.echo(masked("\n".join(f"{name}: {value}" for name, value in rows.items())))
