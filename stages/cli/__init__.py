"""The verbs of the `fastdrive` command: functions of the same name, in the modules that VERBS names.

Those modules are imported to print the help, so a verb imports what is heavy inside its function, or has its code in a
file beside it (`pictures.py`, `export_folder.py`, `view_samples.py`). Start reading at `run`. Flows and DVC are started
as commands.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import NoReturn

import typer

from stages.core.errors import InputError, MachineError, masked

VERBS = {  # its module here, what it is, the words of an example
    "demo": ("verbs", "The method in one picture; no data needed.", "--seed 13 --out demo.png"),
    "doctor": ("doctor", "What is wrong with this checkout and machine.", "--fix"),
    "explain": ("plan", "What a key of params.yaml means.", "train_pruner.alpha"),
    "export": ("verbs", "A pruner as a folder for others.", "models/recon --out exported"),
    "info": ("doctor", "Versions and machine, for an issue.", ""),
    "lineage": ("verbs", "Where a number came from.", "champion"),
    "plan": ("plan", "What a run would do.", "train_pruner"),
    "promote": ("verbs", "A candidate for champion.", '--approve "as good as the champion, 20 % cheaper"'),
    "prune": (
        "verbs",
        "The tokens of your own image that a pruner keeps.",
        "photo.jpg --percent 75 --pruner models/demo",
    ),
    "register": ("verbs", "A trained pruner for candidate.", "recon"),
    "report": ("verbs", "The page of results, or what differs between two states.", "--compare main HEAD"),
    "reproduce": ("verbs", "The whole pipeline.", ""),
    "retrain": ("verbs", "A candidate from the data of now.", "--when drift"),
    "rollback": ("verbs", "The previous champion again.", '--reason "brakes late in rain"'),
    "schema": ("plan", "The JSON schema of params.yaml.", "> params.schema.json"),
    "serve": ("verbs", "MLflow, Prefect and a worker.", ""),
    "view": ("verbs", "Samples one by one: kept tokens, plan, answer.", "recon --percent 75"),
}
COMMAND = ContextVar("COMMAND", default=False)  # this process is the command `fastdrive`, and may become another


def app() -> typer.Typer:
    """Return the command with all verbs."""
    made = typer.Typer(
        name="fastdrive",
        help="Prune the visual tokens of a driving VLA: make it cheaper without making it drive worse.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name, (_, what, words) in VERBS.items():
        made.command(name, short_help=what, epilog=f"Example: fastdrive {name} {words}".strip())(verb(name))
    return made


def verb(name: str) -> Callable[..., None]:
    """Return the function of a verb."""
    function: Callable[..., None] = getattr(import_module(f"{__name__}.{VERBS[name][0]}"), name)
    return function


def run() -> NoReturn:
    """Run the command line.

    Ends with 0 done, 2 config, 3 data, 4 environment, 5 gate refused, 75 try again, 130 and 143 stopped.
    """
    signal.signal(signal.SIGTERM, lambda *_: _end("stopped; run the same command again to go on", 143))
    COMMAND.set(True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        try:
            app()()
        except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
            where, fix = error.filename2 or error.filename, "give a path that you may read and write"
            raise MachineError(expected=f"to use {where}", got=str(error.strerror), fix=fix) from error
    except InputError as error:
        from stages.core.command import again

        _end(masked(error.message(again())), error.exit_code)
    except KeyboardInterrupt:
        _end("stopped; run the same command again to go on", 130)
    sys.exit(0)


def _end(words: str, code: int) -> NoReturn:
    print(words, file=sys.stderr)
    sys.exit(code)


def hand_over(module: str, *words: str) -> None:
    """Replace this process by `python -m <module> <words>`: its output, exit code and signals are the verb's.

    A verb called in Python waits for it instead, and raises CalledProcessError when it fails.
    """
    command = [sys.executable, "-m", module, *words]
    if COMMAND.get():
        os.execv(sys.executable, command)
    subprocess.run(command, check=True)
