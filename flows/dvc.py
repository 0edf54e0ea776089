"""The only caller of DVC: a command line in its own process group, one per checkout, its lock files mended first.

python -m flows.dvc        # mend dvc.lock and .dvc/tmp/rwlock after a kill, before a plain `dvc repro`
"""

import fcntl
import json
import logging
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from flows.process import run

log = logging.getLogger(__name__)

TRY_AGAIN = 75  # a stage that was told to stop and saved its work first: stages/errors.py TryAgainError
DVC = [sys.executable, "-m", "dvc"]
QUIET = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


class DvcError(RuntimeError):
    """DVC or a stage ended badly; the message ends with what it said last."""


class BadInputError(DvcError):
    """A stage refused its params, its data or the machine (exit 2, 3, 4): to run it again changes nothing."""


class StoppedError(DvcError):
    """A stage was stopped or killed from outside (memory, pre-emption, a person): to run it again goes on."""


class BusyError(DvcError):
    """Another DVC works in this checkout."""


class Dvc:
    """DVC in the checkout `root`. Lines of output go to `on_line`; `env` is added to what the stages see."""

    def __init__(
        self, root: Path, on_line: Callable[[str], None] = log.info, env: Mapping[str, str] | None = None
    ) -> None:
        self.root, self.on_line = root.resolve(), on_line
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.env = os.environ | QUIET | {"PATH": path} | dict(env or {})

    def plan(self, target: str = "") -> dict[str, bool]:
        """Each stage (each matrix cell) in the order of a plain `dvc repro`: does it have to be asked to run?

        True for what changed and for what lies behind it. With a target, of that stage and all it is made from.
        """
        inputs = self._inputs()
        wanted = _before(inputs, target) if target else inputs
        changed = set(json.loads(self._ask("status", "--json")))
        plan: dict[str, bool] = {}
        for stage in _in_order(inputs):
            plan[stage] = stage in changed or any(plan[made_by] for made_by in inputs[stage])
        return {stage: stale for stage, stale in plan.items() if stage in wanted and not stage.endswith(".dvc")}

    def before(self, stage: str) -> list[str]:
        """`stage` and all that its inputs come from, in the order of a plain `dvc repro`."""
        inputs = self._inputs()
        found = _before(inputs, stage)
        return [other for other in _in_order(inputs) if other in found and not other.endswith(".dvc")]

    def reproduce(self, stage: str, alone: bool = False) -> None:
        """`dvc repro <stage>`: its inputs too, where they changed, unless it is to run `alone`. Raises a DvcError."""
        tail: deque[str] = deque(maxlen=20)

        def pass_on(line: str) -> None:
            tail.append(line)
            self.on_line(line)

        with _alone(self.root):
            mend(self.root)
            code = run([*DVC, "repro", *(["--single-item"] if alone else []), stage], self.root, self.env, pass_on)
        if code:
            raise _failure(stage, code, "\n".join(tail))

    def _inputs(self) -> dict[str, list[str]]:
        """The stages whose outputs each stage reads."""
        inputs: dict[str, list[str]] = {}
        for line in self._ask("dag", "--dot").splitlines():
            if edge := re.fullmatch(r'"(.+)" -> "(.+)";', line):
                inputs[edge[2]].append(edge[1])
            elif node := re.fullmatch(r'"(.+)";', line):
                inputs[node[1]] = []
        return inputs

    def _ask(self, *words: str) -> str:
        with _alone(self.root):
            mend(self.root)
            answer = subprocess.run([*DVC, *words], cwd=self.root, env=self.env, capture_output=True, text=True)
        if answer.returncode:
            raise _failure(" ".join(words), answer.returncode, answer.stderr)
        return answer.stdout


def _in_order(inputs: Mapping[str, list[str]]) -> list[str]:
    """The stages, inputs first, as DVC walks its graph."""
    order: dict[str, None] = {}

    def visit(stage: str) -> None:
        if stage not in order:
            for made_by in inputs[stage]:
                visit(made_by)
            order[stage] = None

    for stage in inputs:
        visit(stage)
    return list(order)


def _before(inputs: Mapping[str, list[str]], stage: str) -> set[str]:
    """`stage` and all that its inputs come from. Raises BadInputError when the graph has no such stage."""
    if stage not in inputs:
        raise BadInputError(f"wanted a stage of dvc.yaml; got {stage!r}; next: `dvc stage list`, and name one of those")
    found = {stage}
    for other in reversed(_in_order(inputs)):
        found |= set(inputs[other]) if other in found else set()
    return found


def _failure(what: str, code: int, said: str) -> DvcError:
    """The class of an ended DVC: by the exit code of the stage where it ran one, by its own otherwise."""
    exited = re.findall(r"exited with (-?\d+)", said)
    code = int(exited[-1]) if exited else code
    words = f"{what} ended with {code}: {said.strip()[-2000:]}"
    if code in (2, 3, 4) and exited:
        return BadInputError(words)
    if code < 0 or code in (TRY_AGAIN, 130, 137, 143):
        return StoppedError(words)
    return BusyError(words) if "lock" in said and "acquire" in said else DvcError(words)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One DVC of ours per checkout: DVC itself does not wait for another, it fails."""
    (root / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
    with open(root / ".dvc/tmp/fastdrive.lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another run works in {root}; next: wait for it, or stop it") from error
        yield


def mend(root: Path) -> None:
    """Undo what a kill in the wrong millisecond leaves of DVC 3.67 (it writes two files in place), else keep a copy.

    A damaged dvc.lock is replaced by the copy of the last good one, else by the committed one, else removed; a damaged
    rwlock is removed. A file that a running DVC holds is left alone.
    """
    tmp = root / ".dvc/tmp"
    lock, kept, rwlock = root / "dvc.lock", tmp / "dvc.lock.good", tmp / "rwlock"
    with _unless_held(tmp / "lock") as free:
        if free and lock.is_file():
            if _is_lock(lock.read_bytes()):
                _replace(kept, lock.read_bytes())
            else:
                _restore(lock, kept)
    with _unless_held(tmp / "rwlock.lock") as free:
        if free and rwlock.is_file() and not _is_json(rwlock.read_bytes()):
            rwlock.unlink()
            log.warning("removed %s, damaged by a kill", rwlock)


def _restore(lock: Path, kept: Path) -> None:
    committed = subprocess.run(["git", "show", f"HEAD:./{lock.name}"], cwd=lock.parent, capture_output=True).stdout
    for source, data in ((str(kept), kept.read_bytes() if kept.is_file() else b""), ("the last commit", committed)):
        if _is_lock(data):
            _replace(lock, data)
            log.warning("%s was damaged by a kill; restored from %s", lock, source)
            return
    lock.unlink()
    log.warning("%s was damaged by a kill and had no copy: removed; DVC finds the outputs in its cache", lock)


def _is_lock(data: bytes) -> bool:
    """Whether DVC would take `data` as dvc.lock: cut short it can still be YAML."""
    try:
        lock: Any = yaml.safe_load(data)
        entries = list((lock.get("stages") or {}).values())
        files = [file for entry in entries for file in [*entry.get("deps", []), *entry.get("outs", [])]]
        return lock.get("schema") == "2.0" and all("cmd" in entry for entry in entries) and all(map(_is_hashed, files))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError):
        return False


def _is_hashed(file: dict[str, Any]) -> bool:
    return "path" in file and any(isinstance(file.get(kind), str) for kind in ("md5", "etag", "checksum"))


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.replace(path)


@contextmanager
def _unless_held(path: Path) -> Iterator[bool]:
    """Hold a lock file of DVC (zc.lockfile: an flock) for the block; False when a DVC holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with _alone(Path.cwd()):
        mend(Path.cwd())
