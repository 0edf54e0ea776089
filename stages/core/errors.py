"""Errors that a user can fix: what was expected, what was there, the command that fixes it. Secrets are masked."""

import difflib
import os
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

COMMAND = re.compile(r"`[^`]+`|\b(?:dvc|python -m|make|git|fastdrive|pip|apt-get) [a-z.]")
SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|AUTH_STRING|API_?KEY|(^|_)KEY(_|$)", re.IGNORECASE)
SHORTEST = 6  # letters of a secret: a value of three stands in half of all texts


class InputError(ValueError):
    """An input that the user can correct. The process ends with `exit_code`, without a traceback."""

    exit_code = 3

    def __init__(self, *, expected: str, got: str, fix: str) -> None:
        self.expected, self.got, self.fix = expected, got, fix
        super().__init__(f"expected {expected}, got {got}. To fix: {fix}")

    def message(self, command: str) -> str:
        """Return the text with a command to run: `command` is added where `fix` names none."""
        return str(self) if COMMAND.search(self.fix) else f"{self}, then run `{command}`"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with keyword arguments; without this an error in a worker process breaks its pool."""
        return partial(type(self), expected=self.expected, got=self.got, fix=self.fix), (), self.__dict__


class ParamsError(InputError):
    """A key or value of params.yaml that cannot be used."""

    exit_code = 2


class DataError(InputError):
    """A data set, shard, table or checkpoint that is missing, damaged or of another kind."""


class MachineError(InputError):
    """The machine lacks something: disk, memory, a server."""

    exit_code = 4


class GateError(InputError):
    """A model version that may not be promoted: refused by the gate, not approved, or another one moved meanwhile."""

    exit_code = 5


class TryAgainError(InputError):
    """Stopped from outside with its work saved: the same command resumes. 75 is EX_TEMPFAIL of sysexits.h."""

    exit_code = 75


def with_hint(name: str, known: Iterable[str]) -> str:
    """Return the unknown `name` in quotes, with the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return repr(name) + (f" (did you mean {near[0]!r}?)" if near else "")


def masked(value: Any) -> Any:
    """Return texts, in lists and mappings too, without values of secret variables and `user:password@` of addresses."""
    if isinstance(value, dict):
        return {key: masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [masked(part) for part in value]
    if not isinstance(value, str):
        return value
    secrets = {text for name, text in os.environ.items() if SECRET.search(name) and len(text) >= SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        value = value.replace(secret, "***")
    return re.sub(r"(?<=://)[^\s/@\"']+@", "***@", value)
