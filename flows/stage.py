"""A command of stages/ called from a flow: its lines in the flow's log, its refusal as an exception by exit code."""

import json
import os
import re
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import get_run_logger
from prefect.runtime import deployment, flow_run

from flows.links import flow_page
from flows.process import run

REFUSED = 5  # stages/core/errors.py GateError


class StageError(RuntimeError):
    """A command of stages/ ended badly; the message is what it said last, `code` how it ended."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


class RefusedError(StageError):
    """The gate refused, another was first, or there is nothing to go back to."""


def call(module: str, *words: str) -> None:
    """Run `python -m <module> <words>` in this checkout. Raises a StageError when it does not end with 0."""
    tail: deque[str] = deque(maxlen=5)
    log = get_run_logger()

    def pass_on(line: str) -> None:
        tail.append(line)
        log.info(line)

    code = run([sys.executable, "-m", module, *words], Path.cwd(), _env(), pass_on)
    if code:
        kind = RefusedError if code == REFUSED else StageError
        said = re.sub(r"^[\d:]{8} ", "", tail[-1]) if tail else f"{module} ended with {code}"
        raise kind(said, code)


def ask(module: str, *words: str) -> dict[str, Any]:
    """`call`, and the JSON that the command wrote where `--json` said; also when the gate refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "told.json"
        try:
            call(module, f"--json={path}", "--", *words)  # a word from a form is never read as an option
        except RefusedError:
            if not path.is_file():
                raise
        told: dict[str, Any] = json.loads(path.read_bytes())
        return told


def deployed() -> bool:
    """Whether a worker runs this flow, on behalf of whoever asked the server to."""
    return bool(deployment.id)


def _env() -> Mapping[str, str]:
    """Params and code are those of the checkout; the version says which flow run moved it."""
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    about = {"PREFECT__FLOW_RUN_ID": str(flow_run.id), "FASTDRIVE_FLOW_PAGE": flow_page()}
    return env | (about if flow_run.id else {})
