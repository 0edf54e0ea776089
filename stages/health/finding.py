"""What a check found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "bad", "unknown"]

PARAMS, DATA, MACHINE = 2, 3, 4  # the classes of stages/core/errors.py


@dataclass(frozen=True)
class Finding:
    """`came` is what is there, `then` the next command where something is to be done.

    `bad` stops a run, `warn` may; `unknown` could not be looked at. `fixable`: `--fix` repairs it. `code` is the exit
    class of a bad one.
    """

    name: str
    state: State
    got: str
    expected: str = ""
    fix: str = ""
    fixable: bool = False
    code: int = MACHINE
