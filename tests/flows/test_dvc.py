"""DVC called from a flow: order, what is stale, classes of failure, nothing left running, files mended after a kill."""

import fcntl
import subprocess
from pathlib import Path

import pytest

from flows.dvc import BadInputError, BusyError, Dvc, DvcError, StoppedError, mend


def test_the_plan_of_a_fresh_checkout_is_every_cell_in_order(project: Path) -> None:
    assert Dvc(project).plan() == {"world": True, "plan@none": True, "plan@recon": True, "report": True}


def test_what_lies_behind_a_change_is_in_the_plan_and_nothing_else(done: Path) -> None:
    (done / "out/plan_recon.txt").unlink()
    assert Dvc(done).plan() == {"world": False, "plan@none": False, "plan@recon": True, "report": True}


def test_a_target_leaves_alone_what_it_is_not_made_from(project: Path) -> None:
    assert Dvc(project).plan("plan@recon") == {"world": True, "plan@recon": True}
    with pytest.raises(BadInputError, match="wanted a stage of dvc.yaml; got 'plans'"):
        Dvc(project).plan("plans")


def test_lines_come_while_the_stage_runs(project: Path) -> None:
    lines: list[str] = []
    Dvc(project, lines.append).reproduce("world")
    assert any("progress frames 5/20" in line for line in lines)
    assert (project / "out/world.txt").is_file()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("print('wanted masks'); sys.exit(3)", BadInputError),
        ("os.kill(os.getpid(), 9)", StoppedError),
        ("raise SystemExit(75)", StoppedError),
        ("1 / 0", DvcError),
    ],
)
def test_the_class_of_a_failure_says_whether_to_try_again(project: Path, fault: str, error: type[DvcError]) -> None:
    (project / "fault").write_text(fault)
    with pytest.raises(DvcError, match="report ended with") as raised:
        Dvc(project).reproduce("report")
    assert type(raised.value) is error


def test_a_second_run_in_the_same_checkout_is_refused_at_once(project: Path) -> None:
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    with open(project / ".dvc/tmp/fastdrive.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another run works in"):
            Dvc(project).reproduce("world")


@pytest.mark.parametrize("damage", [b"", b"schema: '2.0'\nstages:\n  world:\n    cm", b"\xff\x00", b"[1, 2]"])
def test_a_damaged_lock_is_replaced_by_the_copy_kept_before_the_call(done: Path, damage: bytes) -> None:
    good = (done / "dvc.lock").read_bytes()
    mend(done)
    (done / "dvc.lock").write_bytes(damage)
    mend(done)
    assert (done / "dvc.lock").read_bytes() == good
    assert (done / ".dvc/tmp/dvc.lock.damaged").read_bytes() == damage  # a person may have edited it


def test_without_a_copy_the_committed_lock_is_taken(done: Path) -> None:
    good = (done / "dvc.lock").read_bytes()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "dvc.lock"], cwd=done, check=True)
    subprocess.run([*git, "commit", "-qm", "lock"], cwd=done, check=True)
    (done / "dvc.lock").write_bytes(b"")
    mend(done)
    assert (done / "dvc.lock").read_bytes() == good


def test_after_a_kill_in_both_files_the_checkout_is_up_to_date_again(done: Path) -> None:
    (done / "dvc.lock").write_bytes(b"")  # no copy, not committed
    (done / ".dvc/tmp/rwlock").write_bytes(b"")
    dvc = Dvc(done)
    dvc.reproduce("report")
    assert not any(dvc.plan().values())


def test_a_lock_file_that_a_running_dvc_holds_is_left_alone(done: Path) -> None:
    (done / "dvc.lock").write_bytes(b"")
    with open(done / ".dvc/tmp/lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        mend(done)
    assert (done / "dvc.lock").read_bytes() == b""


def test_what_stands_before_a_stage_is_what_its_inputs_come_from(project: Path) -> None:
    assert Dvc(project).before("plan@recon") == ["world", "plan@recon"]


def test_a_stage_run_alone_leaves_its_stale_inputs_alone(done: Path) -> None:
    (done / "params.yaml").write_text("frames: 4\npruners: [none, recon]\n")
    (done / "out/plan_recon.txt").unlink()
    Dvc(done).reproduce("plan@recon", alone=True)
    assert "frames: 3" in (done / "out/world.txt").read_text()
    assert (done / "out/plan_recon.txt").is_file()
