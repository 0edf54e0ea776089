"""The files that DVC writes in place: dvc.lock and .dvc/tmp/rwlock. What is wrong with them, flows/dvc.py knows."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.health.finding import DATA, Finding, State

MEND = [sys.executable, "-m", "flows.dvc"]
PATIENCE_S = 60


def check(root: Path) -> Iterator[Finding]:
    """A finding for each file that a kill left damaged, or that names processes which are gone."""
    if not (root / "dvc.yaml").is_file():
        then = "`cd` to a clone of the project, then `fastdrive doctor`"
        yield Finding("dvc", "bad", f"no dvc.yaml in {root}", "a checkout", then, code=DATA)
        return
    said, code = _run([*MEND, "look"], root)
    if code:
        yield Finding("dvc", "unknown", said[-1][:300] if said else f"exit {code}", fix="`python -m flows.dvc look`")
        return
    for line in said:
        by_hand = "merge" in line
        then = "`git checkout --ours dvc.lock && dvc repro`" if by_hand else "`fastdrive doctor --fix`"
        state: State = "warn" if "gone" in line else "bad"  # DVC passes over most of the gone by itself
        yield Finding("dvc", state, line, "whole files", then, fixable=not by_hand, code=DATA)
    if not said:
        yield Finding("dvc", "ok", "dvc.lock and .dvc/tmp/rwlock are whole" if _lock(root) else "no dvc.lock yet")


def fix(root: Path) -> Iterator[str]:
    """Mend both files as the flow does before each call of DVC."""
    said, _ = _run(MEND, root)
    yield from (f"dvc: {line}" for line in said)


def _lock(root: Path) -> bool:
    return (root / "dvc.lock").is_file()


def _run(command: list[str], root: Path) -> tuple[list[str], int]:
    try:
        done = subprocess.run(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return [f"silent for {PATIENCE_S} s"], 1
    return [line for line in done.stdout.splitlines() if line.strip()], done.returncode
