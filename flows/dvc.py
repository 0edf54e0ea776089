"""The only caller of DVC: a command line in its own process group, one per checkout, its lock files mended first.

python -m flows.dvc          # mend dvc.lock and .dvc/tmp/rwlock after a kill, before a plain `dvc repro`
python -m flows.dvc look     # only say what is wrong with them, a line each
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

from flows.mend import mend
from flows.process import run

log = logging.getLogger(__name__)

TRY_AGAIN = 75  # a stage that was told to stop and saved its work first: stages/core/errors.py TryAgainError
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


def main(words: list[str]) -> None:
    """The command line: 0, or 4 where another run works."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root = Path.cwd()
    try:
        if words == ["look"]:
            for fault in mend(root, look=True):
                print(fault)
        else:
            with _alone(root):
                mend(root)
    except BusyError as error:
        print(error, file=sys.stderr)
        sys.exit(4)


if __name__ == "__main__":
    main(sys.argv[1:])
