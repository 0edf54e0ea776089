"""A run that is killed (-9) in the middle of its writing, in a forked child: no new interpreter, no imports."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def killed_at(name: str, main: Callable[[], object]) -> int:
    """Run `main` in a child that is killed in place of renaming a file to `name`; return how the child ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    rename = os.replace

    def replace(source: str, target: str) -> None:
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]
    try:
        main()
    finally:
        os._exit(0)
