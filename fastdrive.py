"""Prune the visual tokens of one's own Qwen2.5-VL:

pruner = fastdrive.load("models/recon")
with fastdrive.prune(model, pruner, percent=50):
    answer = model.generate(**inputs)

The command `fastdrive` has its verbs in stages/cli; here they are functions: `fastdrive.demo(out=Path("demo.png"))`,
`fastdrive.plan()`, and so on (but `prune`, which is the above). What is heavy is imported by the function that needs
it, so that `fastdrive --help` and `fastdrive info` start at once.
"""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

    from stages.pruning.base import Pruner
    from stages.vla.prune import Applied

__all__ = ["load", "prune"]

REGISTRY = "models:/"


def load(address: str | Path, **options: Any) -> "Pruner":
    """Return a trained pruner from a folder or from MLflow's registry, or a method without training by its name.

    `models/recon`, `models:/reconpruner@champion`, `divprune`, `my_pkg.my_pruner:MyPruner`; `options` are the method's
    own (`layer=2` of fastv). Raises DataError for an address with no pruner, or one whose files are damaged;
    ParamsError for wrong options.
    """
    from stages.core import plugins
    from stages.core.errors import DataError, ParamsError
    from stages.pruning import base
    from stages.pruning.recon import MADE_BY

    name = str(address)
    registered, stored = name.startswith(REGISTRY), Path(name).is_dir()
    if not registered and not stored:
        if plugins.is_address(name) or name in base.available():
            return base.load(name, options)
        raise DataError(
            expected="a folder with a trained pruner, an address models:/<name>@<alias> or package.module:Class, "
            f"or one of {base.available()}",
            got=repr(name),
            fix=f"train one: `{MADE_BY}` writes models/recon; models/demo is in git",
        )
    if options:
        got, fix = ", ".join(options), "give options to methods by name only"
        raise ParamsError(expected="no options for a trained pruner", got=got, fix=fix)
    if stored:
        return _read(Path(name))
    from stages.registry.versions import fetch_model  # MLflow takes seconds to import

    with TemporaryDirectory() as folder:
        return _read(fetch_model(name, Path(folder)))


def prune(
    model: "Qwen2_5_VLForConditionalGeneration", pruner: "Pruner", percent: int | float, *, per_image: bool = False
) -> "AbstractContextManager[Applied]":
    """Inside, `model` reads every prompt with `percent` of its visual tokens removed; afterwards it is as before.

    Batches and several images (one pool, or with `per_image` each its share). What is refused, and why:
    `stages.vla.prune.prune`.
    """
    from stages.vla import prune as host

    return host.prune(model, pruner, percent, per_image=per_image)


def __getattr__(name: str) -> Any:
    """Return a verb of the command as a function."""
    from stages import cli

    if name in cli.VERBS:
        return cli.verb(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _read(folder: Path) -> "Pruner":
    """Return the trained pruner of a folder with its weights in memory: the folder may go."""
    from stages.pruning import base, checkpoint
    from stages.pruning.recon import MADE_BY, method_of

    method = method_of(checkpoint.read_config(folder, MADE_BY))
    pruner: Any = base.load(method, {"checkpoint": str(folder)})
    pruner.read()
    return pruner


def main() -> NoReturn:
    """Run the command line. Ends with 4 in an environment that lacks its packages."""
    try:
        from stages.cli import run
    except ModuleNotFoundError as error:
        if str(error.name).startswith("stages"):
            raise
        fix = "`make doctor` makes .venv; then `. .venv/bin/activate` and the same command again"
        print(
            f"expected the packages of pyproject.toml, got {error} for {sys.executable}. To fix: {fix}", file=sys.stderr
        )
        sys.exit(4)
    run()


if __name__ == "__main__":
    main()
