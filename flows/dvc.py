"""The command line of DVC in its own process group: one per checkout, output line by line, stopped as a whole."""

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, chdir, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

from stages.core.errors import InputError, TryAgainError
from stages.core.graph import open_graph
from stages.core.io import alone

log = logging.getLogger(__name__)

STOP_S = 150  # from TERM to KILL: a training saves its state, which at full size takes a minute or two
DVC = [sys.executable, "-m", "dvc"]
QUIET = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


class DvcError(InputError):
    """DVC or a stage failed; `got` ends with its last lines."""


class StoppedError(DvcError):
    """A stage was stopped or killed from outside (memory, pre-emption, a person): running it again resumes."""


class Dvc:
    """DVC in the checkout `root`. Lines of output go to `on_line`; `env` is added to the environment of the stages."""

    def __init__(
        self, root: Path, on_line: Callable[[str], None] = log.info, env: Mapping[str, str] | None = None
    ) -> None:
        self.root, self.on_line = root.resolve(), on_line
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.env = os.environ | QUIET | {"PATH": path} | dict(env or {})

    def plan(self, target: str = "") -> dict[str, bool]:
        """Each stage (each matrix cell) in the order of `dvc repro` -> whether it or one before it has changed.

        With a target: that stage and all it depends on. Raises DvcError for a target that is no stage.
        """
        import networkx

        plan: dict[str, bool] = {}
        # Names are relative to the working directory
        with self._alone(), chdir(self.root), open_graph(self.root) as repo:
            graph = repo.index.graph  # an edge leads from a stage to what it reads
            stages = {stage.addressing: stage for stage in graph}
            if target and target not in stages:
                fix = "name one that `dvc stage list` shows"
                raise DvcError(expected="a stage of dvc.yaml", got=repr(target), fix=fix)
            changed = repo.status(target or None, with_deps=bool(target))
            for stage in networkx.dfs_postorder_nodes(graph, stages.get(target)):
                after = any(plan[before.addressing] for before in graph.successors(stage))
                plan[stage.addressing] = stage.addressing in changed or after
        return {stage: stale for stage, stale in plan.items() if not stage.endswith(".dvc")}

    def reproduce(self, stage: str, single: bool = False) -> None:
        """`dvc repro <stage>` with its stale inputs, or without them if `single`. Raises a DvcError."""
        self._run("repro", *(["--single-item"] if single else []), stage)

    def experiment(self, name: str, overrides: Mapping[str, Any], target: str = "") -> None:
        """`dvc exp run` with other values of params.yaml, in a copy of the checkout. Raises a DvcError."""
        values = [f"--set-param={key}={json.dumps(value)}" for key, value in overrides.items()]
        self._run("exp", "run", "--temp", f"--name={name}", *values, *([target] if target else []))

    def _run(self, *words: str) -> None:
        tail: deque[str] = deque(maxlen=20)

        def on_line(line: str) -> None:
            tail.append(line)
            self.on_line(line)

        with self._alone():
            code = run([*DVC, *words], self.root, self.env, on_line)
        if code:
            raise _failure(shlex.join(words), code, "\n".join(tail))

    def _alone(self) -> AbstractContextManager[None]:
        """One DVC of ours per checkout: DVC itself does not wait for another, it fails. Raises MachineError."""
        return alone(self.root / ".dvc/tmp/fastdrive.lock", f"run DVC in {self.root}", patience_s=0.0)


def _failure(words: str, code: int, output: str) -> DvcError:
    """The class of a failed DVC: by the exit code of the stage where it ran one, otherwise by its own."""
    exits = re.findall(r"exited with (-?\d+)", output)
    code = int(exits[-1]) if exits else code
    kind = StoppedError if code < 0 or code in (TryAgainError.exit_code, 130, 137, 143) else DvcError
    got, fix = f"it ended with {code}: {output.strip()[-2000:]}", "correct what it names, then run it again"
    return kind(expected=f"`dvc {words}` to end well", got=got, fix=fix)


def run(command: list[str], root: Path, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """Run `command`, lines to `on_line`; return its exit code. Its processes end if this one is stopped or killed."""
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
