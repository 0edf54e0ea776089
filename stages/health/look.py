"""All checks, in the order of the alphabet, and the repairs of those that can repair."""

import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from stages.core.errors import InputError
from stages.health import checks
from stages.health.finding import Finding


def names() -> list[str]:
    """The checks there are: the files of stages/health/checks."""
    return sorted(module.name for module in pkgutil.iter_modules(checks.__path__))


def look(root: Path) -> Iterator[Finding]:
    """Everything that the checks find in the checkout `root`; a check that itself fails is a finding too."""
    for name in names():
        try:
            yield from import_module(f"{checks.__name__}.{name}").check(root)
        except InputError as error:
            yield Finding(name, "unknown", error.got, error.expected, error.fix)
        except Exception as error:  # one check on an odd machine must not hide what the others found
            came = f"the check itself failed: {type(error).__name__}: {error}"
            yield Finding(name, "unknown", came, fix="report it with the output of `fastdrive info`")


def repair(root: Path, found: Sequence[Finding]) -> Iterator[str]:
    """Run the repair of each check with a fixable finding; a line for each thing done."""
    for name in dict.fromkeys(finding.name for finding in found if finding.fixable):
        try:
            yield from import_module(f"{checks.__name__}.{name}").fix(root)
        except (InputError, OSError) as error:
            yield f"{name}: not repaired: {error}"


def exit_code(found: Sequence[Finding]) -> int:
    """0 when nothing is bad, else the class of the first thing to mend: params before machine before data."""
    codes = {finding.code for finding in found if finding.state == "bad"}
    return next((code for code in (2, 4, 3) if code in codes), 0)
