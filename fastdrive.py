"""Prune the visual tokens of one's own Qwen2.5-VL:

pruner = fastdrive.load("models/recon")
with fastdrive.prune(model, pruner, percent=50):
    answer = model.generate(**inputs)
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.errors import DataError, ParamsError
from stages.pruning import base
from stages.pruning.base import Pruner
from stages.pruning.recon import MADE_BY, method_of
from stages.registry import checkpoint
from stages.vla.prune import Applied, prune

__all__ = ["Applied", "load", "prune"]

REGISTRY = "models:/"


def load(address: str | Path, **options: Any) -> Pruner:
    """A trained pruner from a folder or from MLflow's registry, or a method without training by its name.

    `models/recon`, `models:/reconpruner@champion`, `divprune`; `options` are the method's own (`layer=2` of fastv).
    Raises DataError for an address with no pruner, or one whose files are damaged; ParamsError for wrong options.
    """
    name = str(address)
    stored = name.startswith(REGISTRY) or Path(name).is_dir()
    if stored and options:
        raise ParamsError(
            wanted="no options for a trained pruner",
            came=", ".join(options),
            then="give options to methods by name only",
        )
    if name.startswith(REGISTRY):
        from stages.registry.versions import fetch_model  # MLflow takes seconds to import

        with TemporaryDirectory() as folder:
            return _read(fetch_model(name, Path(folder)))
    if name in base.available() and not stored:
        return base.load(name, options)
    if not stored:
        raise DataError(
            wanted=f"a folder with a trained pruner, an address models:/<name>@<alias>, or one of {base.available()}",
            came=repr(name),
            then=f"train one: `{MADE_BY}` writes models/recon",
        )
    return _read(Path(name))


def _read(folder: Path) -> Pruner:
    """The trained pruner of a folder, its weights in memory: the folder may go."""
    method = method_of(checkpoint.read_config(folder, MADE_BY))
    pruner: Any = base.load(method, {"checkpoint": str(folder)})
    pruner.read()
    return pruner
