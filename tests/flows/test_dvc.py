"""DVC called from a flow: order, what is stale, classes of failure, nothing left running."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.dvc import Dvc, DvcError, StoppedError, _failure, run
from stages.core.errors import DataError, MachineError
from stages.core.io import alone

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of pygtrie, in DVC


def test_the_plan_is_every_stale_cell_in_order_or_what_a_target_is_made_from(project: Path) -> None:
    assert Dvc(project).plan() == {"world": True, "plan@none": True, "plan@recon": True, "report": True}
    assert Dvc(project).plan("plan@recon") == {"world": True, "plan@recon": True}
    with pytest.raises(DvcError, match="plans"):
        Dvc(project).plan("plans")


def test_what_lies_behind_a_change_is_stale_and_a_stage_run_alone_leaves_its_stale_inputs_alone(done: Path) -> None:
    (done / "out/plan_recon.txt").unlink()
    assert Dvc(done).plan() == {"world": False, "plan@none": False, "plan@recon": True, "report": True}
    (done / "params.yaml").write_text("frames: 4\npruners: [none, recon]\n")
    Dvc(done).reproduce("plan@recon", single=True)
    assert "frames: 3" in (done / "out/world.txt").read_text()
    assert (done / "out/plan_recon.txt").is_file()


def test_an_experiment_leaves_the_checkout_as_it_is(done: Path) -> None:
    before = (done / "dvc.lock").read_bytes()
    Dvc(done).experiment("four", {"frames": 4}, "world")
    assert (done / "dvc.lock").read_bytes() == before
    refs = subprocess.check_output(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], cwd=done, text=True)
    (name,) = [name for name in refs.split() if name.endswith("/four")]
    assert b"frames: 4" in subprocess.check_output(["git", "show", f"{name}:params.yaml"], cwd=done)


def test_a_stage_that_refuses_its_input_is_not_tried_again(project: Path) -> None:
    (project / "fault").write_text("print('wanted masks'); sys.exit(3)")
    lines: list[str] = []
    with pytest.raises(DvcError, match=r"repro report(?s:.*)ended with 3(?s:.*)wanted masks") as refusal:
        Dvc(project, lines.append).reproduce("report")
    assert not isinstance(refusal.value, StoppedError)
    assert any("progress frames 5/20" in line for line in lines)


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("failed to run: python stage.py, exited with -9", StoppedError),
        ("failed to run: python stage.py, exited with 75", StoppedError),
        ("failed to run: python stage.py, exited with 1", DvcError),
        ("Unable to acquire lock", DvcError),
    ],
)
def test_the_class_of_a_failure_says_whether_to_try_again(output: str, error: type[DvcError]) -> None:
    assert type(_failure("report", 255, output)) is error


def test_a_second_run_in_the_same_checkout_is_refused_at_once(project: Path) -> None:
    refused = pytest.raises(MachineError, match=f"to run DVC in {project} alone, got another process")
    with alone(project / ".dvc/tmp/fastdrive.lock", "work"), refused:
        Dvc(project).reproduce("world")


def test_a_lock_that_was_cut_short_is_named_with_what_to_do(done: Path) -> None:
    (done / "dvc.lock").write_bytes(b"schema: '2.0'\nstages:\n  world:\n    cm")
    with pytest.raises(DataError, match="git checkout dvc.lock"):
        Dvc(done).plan()


def test_stopping_a_run_stops_its_grandchildren(tmp_path: Path) -> None:
    grandchild = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", child], tmp_path, os.environ, stop)
    assert ended(pids[0])


def test_a_killed_caller_takes_its_command_along(tmp_path: Path) -> None:
    command = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    program = "import os, sys; from pathlib import Path; from flows.dvc import run; "
    program += f"run([sys.executable, '-c', {command!r}], Path('.'), os.environ, lambda line: print(line, flush=True))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout
        pid = int(caller.stdout.readline())
        caller.kill()
        assert ended(pid)


def test_a_stage_that_saves_when_it_is_stopped_is_given_the_time(tmp_path: Path) -> None:
    """DVC ends at SIGTERM at once, its stage a second later."""
    stage = """
import signal, sys, time
def save(*_):
    time.sleep(1)
    open("saved", "w").close()
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("at work", flush=True)
time.sleep(60)
"""
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if line == "at work":
            raise KeyboardInterrupt

    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"]
    with pytest.raises(KeyboardInterrupt):
        run(command, tmp_path, os.environ, stop)
    assert (tmp_path / "saved").exists()
    assert lines == ["at work", "saved"]


def test_a_bar_arrives_as_lines_and_bad_bytes_do_no_harm(tmp_path: Path) -> None:
    lines: list[str] = []
    program = "import sys; sys.stdout.buffer.write(b'10 %\\r20 %\\r\\nlast \\xff')"
    assert run([sys.executable, "-c", program], tmp_path, os.environ, lines.append) == 0
    assert lines == ["10 %", "20 %", "last \ufffd"]


def ended(pid: int) -> bool:
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return True
        time.sleep(0.1)
    return False
