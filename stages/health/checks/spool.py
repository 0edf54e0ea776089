"""Records of runs that have not reached MLflow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import DataError
from stages.core.io import read_json
from stages.core.spool import is_live, refusal, sidecar
from stages.health.finding import Finding
from stages.health.working import SPOOL

SEND = [sys.executable, "-m", "stages.core.tracking"]
PATIENCE_S = 120


def check(root: Path) -> Iterator[Finding]:
    """Ended runs that wait, with what refused them; those of stages that run, or that wait for DVC's hash, are well."""
    waiting = _waiting(root)
    if not waiting:
        yield Finding("spool", "ok", "every run that ended has reached MLflow")
        return
    said = {refusal(path).read_text(encoding="utf-8") for path in waiting if refusal(path).is_file()}
    came = f"{len(waiting)} runs not sent" + (f" ({'; '.join(sorted(said))[:300]})" if said else "")
    damaged = any("not readable" in words for words in said)
    then = (
        f"`python -m stages.core.tracking`; move what it cannot read out of {SPOOL}"
        if damaged
        else "`python -m stages.core.tracking`"
    )
    yield Finding("spool", "warn", came, "every run in MLflow", then, fixable=True)


def fix(root: Path) -> Iterator[str]:
    """Send them; what cannot be sent now stays."""
    before = len(_waiting(root))
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))
    try:
        subprocess.run(SEND, cwd=root, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        yield f"spool: no end within {PATIENCE_S} s"
    left = len(_waiting(root))
    yield f"spool: {before - left} runs sent, {left} left"


def _waiting(root: Path) -> list[Path]:
    return [path for path in sorted((root / SPOOL).glob("*.jsonl")) if not is_live(path) and not _is_told(path)]


def _is_told(path: Path) -> bool:
    """Whether all but the hashes of the outputs is sent: these go with the next run."""
    try:
        return sidecar(path).is_file() and "ended" in read_json(sidecar(path), "")
    except DataError:
        return False
