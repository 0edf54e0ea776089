"""The command line of DVC in its own process group: one per checkout, output line by line, stopped as a whole."""

import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

log = logging.getLogger(__name__)

TRY_AGAIN = 75  # exit code of stages/core/errors.py TryAgainError
STOP_S = 150  # from TERM to KILL: a training saves its state, which at full size takes a minute or two
DVC = [sys.executable, "-m", "dvc"]
QUIET = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


class DvcError(RuntimeError):
    """DVC or a stage failed; the message ends with its last lines."""


class BadInputError(DvcError):
    """A stage refused its params, its data or the machine (exit 2, 3, 4): running it again changes nothing."""


class StoppedError(DvcError):
    """A stage was stopped or killed from outside (memory, pre-emption, a person): running it again resumes."""


class BusyError(DvcError):
    """Another DVC works in this checkout."""


class Dvc:
    """DVC in the checkout `root`. Lines of output go to `on_line`; `env` is added to the environment of the stages."""

    def __init__(
        self, root: Path, on_line: Callable[[str], None] = log.info, env: Mapping[str, str] | None = None
    ) -> None:
        self.root, self.on_line = root.resolve(), on_line
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.env = os.environ | QUIET | {"PATH": path} | dict(env or {})

    def plan(self, target: str = "") -> dict[str, bool]:
        """Each stage (each matrix cell) in topological order -> whether it is stale: changed, or after one that is.

        With a target: that stage and all it depends on. Raises BadInputError for a target that is no stage.
        """
        inputs = self._inputs()
        if target and target not in inputs:
            raise BadInputError(
                f"expected a stage of dvc.yaml, got {target!r}. To fix: name one that `dvc stage list` shows"
            )
        changed = set(json.loads(self._ask("status", "--json")))
        plan: dict[str, bool] = {}

        def visit(stage: str) -> None:
            if stage not in plan:
                for before in inputs[stage]:
                    visit(before)
                plan[stage] = stage in changed or any(plan[before] for before in inputs[stage])

        for stage in [target] if target else inputs:
            visit(stage)
        return {stage: stale for stage, stale in plan.items() if not stage.endswith(".dvc")}

    def reproduce(self, stage: str, alone: bool = False) -> None:
        """`dvc repro <stage>` with its stale inputs, or without them if `alone`. Raises a DvcError."""
        tail: deque[str] = deque(maxlen=20)

        def on_line(line: str) -> None:
            tail.append(line)
            self.on_line(line)

        with _lock(self.root):
            code = run([*DVC, "repro", *(["--single-item"] if alone else []), stage], self.root, self.env, on_line)
        if code:
            raise _failure(stage, code, "\n".join(tail))

    def _inputs(self) -> dict[str, list[str]]:
        """Stage -> the stages whose outputs it reads."""
        inputs: dict[str, list[str]] = {}
        for line in self._ask("dag", "--dot").splitlines():
            if edge := re.fullmatch(r'"(.+)" -> "(.+)";', line):
                inputs[edge[2]].append(edge[1])
            elif node := re.fullmatch(r'"(.+)";', line):
                inputs[node[1]] = []
        return inputs

    def _ask(self, *words: str) -> str:
        with _lock(self.root):
            answer = subprocess.run([*DVC, *words], cwd=self.root, env=self.env, capture_output=True, text=True)
        if answer.returncode:
            raise _failure(" ".join(words), answer.returncode, answer.stderr)
        return answer.stdout


def _failure(command: str, code: int, output: str) -> DvcError:
    """The class of a failed DVC: by the exit code of the stage where it ran one, otherwise by its own."""
    exits = re.findall(r"exited with (-?\d+)", output)
    code = int(exits[-1]) if exits else code
    message = f"{command} ended with {code}: {output.strip()[-2000:]}"
    if code in (2, 3, 4) and exits:
        return BadInputError(message)
    if code < 0 or code in (TRY_AGAIN, 130, 137, 143):
        return StoppedError(message)
    if "dvc.lock" in output and not exits:
        return BadInputError(f"{message}\nTo fix a dvc.lock that was cut short: git checkout dvc.lock")
    return BusyError(message) if "lock" in output and "acquire" in output else DvcError(message)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One DVC of ours per checkout: DVC itself does not wait for another, it fails."""
    (root / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
    with open(root / ".dvc/tmp/fastdrive.lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another run works in {root}. To fix: wait for it, or stop it") from error
        yield


def run(command: list[str], root: Path, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """Run `command`, each line (also of a progress bar) to `on_line`; return its exit code.

    If this process is interrupted or killed, all processes of the command are stopped.
    """
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with (
        subprocess.Popen(command, cwd=root, env=env, start_new_session=True, **pipe) as process,
        _stopped_with_us(process.pid),
    ):
        try:
            _pass_lines(process, on_line)
        except BaseException:
            _stop(process, on_line)
            raise
    return process.returncode


def _pass_lines(process: "subprocess.Popen[str]", on_line: Callable[[str], None]) -> None:
    """Pass lines on until nobody holds the output any more."""
    assert process.stdout
    for line in process.stdout:
        if line.strip():
            on_line(line.rstrip("\n"))


@contextmanager
def _stopped_with_us(group: int) -> Iterator[None]:
    """A small process that sends TERM to the group if the pipe to it ends without a line: this process was killed."""
    program = "import os, sys; sys.stdin.readline() or os.killpg(int(sys.argv[1]), 15)"
    watch = [sys.executable, "-S", "-E", "-c", program, str(group)]
    with subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield
        finally:
            process.communicate(b"done\n")


def _stop(process: "subprocess.Popen[str]", on_line: Callable[[str], None]) -> None:
    """Send TERM to the whole group, KILL to the rest after `STOP_S`: DVC itself ends at once, its stage saves first."""

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = Timer(STOP_S, kill)
    timer.start()
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            _pass_lines(process, on_line)
    finally:
        timer.cancel()
        kill()
        process.wait()
