"""Which versions are installed, wanted and locked; by metadata, nothing is imported."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LOCKED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
SHOWN = ("torch", "transformers", "deepspeed", "dvc", "mlflow", "prefect", "fastapi", "numpy", "pydantic", "ray")


def installed(name: str) -> str:
    """The version of a package, or empty."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def locked(root: Path) -> dict[str, str]:
    """Package -> version of requirements.lock."""
    path = root / "requirements.lock"
    return dict(LOCKED.findall(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def project(root: Path) -> dict[str, Any]:
    """The section [project] of pyproject.toml."""
    path = root / "pyproject.toml"
    if not path.is_file():
        return {}
    read: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    return read


def torch_cuda() -> str:
    """The CUDA that torch was built for, read from its file; empty for a build without."""
    found = find_spec("torch")
    if not found or not found.origin:
        return ""
    file = Path(found.origin).with_name("version.py")
    said = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", file.read_text(encoding="utf-8"), re.MULTILINE)
    return said[1] if said else ""
