"""The verbs of the `fastdrive` command: a file each, with a function of the same name and an EXAMPLE.

All of them are imported to print the help, so a verb imports what is heavy inside its function. Flows are started as
commands.
"""

import logging
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import typer

from stages.core.command import again
from stages.core.errors import InputError, MachineError
from stages.core.secrets import masked

COMMAND = ContextVar("COMMAND", default=False)  # this process is the command `fastdrive`, and may become another


class TerminatedError(BaseException):
    """A SIGTERM came."""


class EndedError(RuntimeError):
    """A verb called in Python ended badly; `code` is what the command would have ended with."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"fastdrive {name} ended with {code}")
        self.code = code


def names() -> list[str]:
    """The verbs, in the order of the alphabet."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def app() -> typer.Typer:
    """The command, built from the files of this folder."""
    made = typer.Typer(
        name="fastdrive",
        help="Prune the visual tokens of a driving VLA: make it cheaper without making it drive worse.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name in names():
        verb = import_module(f"{__name__}.{name}")
        made.command(name, short_help=verb.__doc__, epilog=f"Example: {verb.EXAMPLE}")(getattr(verb, name))
    return made


def run() -> NoReturn:
    """The command line.

    Ends with 0 done, 2 config, 3 data, 4 environment, 5 gate refused, 75 try again, 130 and 143 stopped.
    """
    signal.signal(signal.SIGTERM, _terminate)
    COMMAND.set(True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        app()()
    except InputError as error:
        _end(error.message(again()), error.exit_code)
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        where, then = error.filename2 or error.filename, "give a path that you may read and write"
        fault = MachineError(expected=f"to use {where}", got=str(error.strerror), fix=then)
        _end(fault.message(again()), fault.exit_code)
    except KeyboardInterrupt:
        _end("stopped; run the same command again to go on", 130)
    except TerminatedError:
        _end("stopped; run the same command again to go on", 143)
    sys.exit(0)


def hand_over(module: str, *words: str) -> NoReturn:
    """Become `python -m <module> <words>`: what it says, its exit code and signals to it are those of the verb.

    A verb called in Python waits for it instead.
    """
    command = [sys.executable, "-m", module, *words]
    if COMMAND.get():
        os.execv(sys.executable, command)
    raise typer.Exit(subprocess.run(command).returncode)


def function(name: str) -> Callable[..., None]:
    """A verb for Python: returns when it is done. Raises InputErrors as they come, EndedError for another bad end."""
    verb = getattr(import_module(f"{__name__}.{name}"), name)

    @wraps(verb)
    def call(*values: Any, **named: Any) -> None:
        try:
            verb(*values, **named)
        except typer.Exit as end:
            if end.exit_code:
                raise EndedError(name, end.exit_code) from None

    return call


def _end(words: str, code: int) -> NoReturn:
    print(masked(words), file=sys.stderr)
    sys.exit(code)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise TerminatedError
