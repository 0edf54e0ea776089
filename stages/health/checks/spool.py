"""Records of runs that have not reached MLflow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.core.tracking import UNSENT, unsent
from stages.health.finding import Finding

SEND = [sys.executable, "-c", "from stages.core.tracking import send_unsent; send_unsent()"]
PATIENCE_S = 120


def check(root: Path) -> Iterator[Finding]:
    """Report ended runs that wait in runs/unsent; those of stages that run are well."""
    if waiting := unsent(root):
        got, fix = f"{len(waiting)} runs not sent, in {UNSENT}", "`fastdrive doctor --fix`"
        yield Finding("spool", "warn", got, "every run in MLflow", fix, fixable=True)
    else:
        yield Finding("spool", "ok", "every run that ended has reached MLflow")


def fix(root: Path) -> Iterator[str]:
    """Send them; what cannot be sent now stays."""
    before = len(unsent(root))
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))
    try:
        subprocess.run(SEND, cwd=root, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        yield f"spool: no end within {PATIENCE_S} s"
    left = len(unsent(root))
    yield f"spool: {before - left} runs sent, {left} left"
