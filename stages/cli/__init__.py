"""The verbs of the `fastdrive` command: a file each, with a function of the same name and an EXAMPLE.

All verbs are imported to print the help, so a verb imports what is heavy inside its function, or has its code in a file
beside it (`pictures.py`, `export_folder.py`, `view_samples.py`). Start reading at `run`. Flows and DVC are started as
commands.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import Any, NoReturn

import typer

from stages.core.errors import InputError, MachineError
from stages.core.secrets import masked

VERBS = (
    "demo", "doctor", "explain", "export", "info", "lineage", "plan", "promote", "prune", "report", "reproduce",
    "rollback", "schema", "view",
)  # fmt: skip
COMMAND = ContextVar("COMMAND", default=False)  # this process is the command `fastdrive`, and may become another


class EndedError(RuntimeError):
    """A verb called in Python failed; `code` is the exit code that the command would have ended with."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"fastdrive {name} ended with {code}")
        self.code = code


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
    for name in VERBS:
        verb = import_module(f"{__name__}.{name}")
        made.command(name, short_help=verb.__doc__, epilog=f"Example: {verb.EXAMPLE}")(getattr(verb, name))
    return made


def run() -> NoReturn:
    """Run the command line.

    Ends with 0 done, 2 config, 3 data, 4 environment, 5 gate refused, 75 try again, 130 and 143 stopped.
    """
    signal.signal(signal.SIGTERM, lambda *_: _end("stopped; run the same command again to go on", 143))
    COMMAND.set(True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        app()()
    except InputError as error:
        _refuse(error)
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        where, fix = error.filename2 or error.filename, "give a path that you may read and write"
        _refuse(MachineError(expected=f"to use {where}", got=str(error.strerror), fix=fix))
    except KeyboardInterrupt:
        _end("stopped; run the same command again to go on", 130)
    sys.exit(0)


def _refuse(error: InputError) -> NoReturn:
    from stages.core.command import again

    _end(masked(error.message(again())), error.exit_code)


def _end(words: str, code: int) -> NoReturn:
    print(words, file=sys.stderr)
    sys.exit(code)


def hand_over(module: str, *words: str) -> NoReturn:
    """Replace this process by `python -m <module> <words>`: its output, exit code and signals are the verb's.

    A verb called in Python waits for it instead.
    """
    command = [sys.executable, "-m", module, *words]
    if COMMAND.get():
        os.execv(sys.executable, command)
    raise typer.Exit(subprocess.run(command).returncode)


def function(name: str) -> Callable[..., None]:
    """Return a verb as a function. It raises InputError as the verb does, EndedError for another failure."""
    verb = getattr(import_module(f"{__name__}.{name}"), name)

    @wraps(verb)
    def call(*values: Any, **named: Any) -> None:
        try:
            verb(*values, **named)
        except typer.Exit as end:
            if end.exit_code:
                raise EndedError(name, end.exit_code) from None

    return call
