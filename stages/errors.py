"""What a user is told when an input is wrong: what was wanted, what came, what to run next."""

import re
from functools import partial
from typing import Any

COMMAND = re.compile(r"`[^`]+`|\b(?:dvc|python -m|make|git|fastdrive|pip|apt-get) [a-z.]")  # in the words of `then`


class InputError(ValueError):
    """An input that the user can mend. The process ends with `exit_code`, without a traceback."""

    exit_code = 3

    def __init__(self, *, wanted: str, came: str, then: str) -> None:
        self.wanted, self.came, self.then = wanted, came, then
        super().__init__(f"wanted {wanted}; got {came}; next: {then}")

    def told(self, again: str) -> str:
        """The message with a command that runs: where `then` has none (an edit, a file to fetch), `again` after it."""
        return str(self) if COMMAND.search(self.then) else f"{self}, then `{again}`"

    def __reduce__(self) -> tuple[Any, ...]:
        """Keyword arguments do not survive pickling by themselves: a worker's error would kill its pool."""
        return partial(type(self), wanted=self.wanted, came=self.came, then=self.then), (), self.__dict__


class ParamsError(InputError):
    """A key or value of params.yaml that cannot be used."""

    exit_code = 2


class DataError(InputError):
    """A data set, shard, table or checkpoint that is missing, damaged or of another kind."""

    exit_code = 3


class MachineError(InputError):
    """The machine lacks something: disk, memory, a compiler, a server."""

    exit_code = 4


class GateError(InputError):
    """A model version that may not be moved: refused by the gate, not approved, or another one moved meanwhile."""

    exit_code = 5


class TryAgainError(InputError):
    """Stopped from outside with its work saved: the same command goes on. 75 is EX_TEMPFAIL of sysexits.h."""

    exit_code = 75
