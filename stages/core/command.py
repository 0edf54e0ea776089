"""Start a stage from the command line: logging, checked params, the matrix cell, exit codes."""

import logging
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from stages.core.errors import InputError, ParamsError
from stages.core.params import Params, read_params
from stages.core.progress import Stderr
from stages.core.secrets import masked
from stages.core.stage_log import logged_stage


def run(main: Callable[[Params], None]) -> None:
    """Read params.yaml, run the stage, end the process.

    0 done, 2 params, 3 data, 4 machine, 5 refused by the gate, 75 stopped with its work saved, 130 stopped.
    """
    _log_to_stderr()
    try:
        with logged_stage():
            main(read_params())
    except InputError as error:
        logging.getLogger("fastdrive").error("%s", masked(error.message(again())))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        logging.getLogger("fastdrive").error("stopped; run the same command again to go on")
        sys.exit(130)


def again() -> str:
    """Return the command that runs this process's work again: the stage by DVC where DVC started it."""
    if stage := os.environ.get("DVC_STAGE"):
        return f"dvc repro {shlex.quote(stage)}"
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m`
    name = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    program = f"python -m {name}" if spec else name.replace("fastdrive.py", "python fastdrive.py")
    return shlex.join([*program.split(), *sys.argv[1:]])


def cell(allowed: list[str]) -> str:
    """Return the matrix cell to work on: the first argument, or what follows `@` in DVC_STAGE.

    DVC gives the cell in the environment, so that no value of params.yaml is ever part of a shell command.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DVC_STAGE", "").partition("@")[2]
    if name not in allowed:
        raise ParamsError(
            expected=f"one of {', '.join(allowed)}", got=repr(name), fix="name one of them as the first argument"
        )
    return name


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, handlers=[Stderr()], format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    logging.getLogger("fastdrive").setLevel(logging.INFO)
    for noisy in ("alembic", "mlflow", "matplotlib", "PIL", "numexpr", "DeepSpeed", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
