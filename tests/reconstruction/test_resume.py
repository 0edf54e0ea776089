import errno
import logging
from pathlib import Path

import pytest
from tiny_pruner import make_options

from stages.errors import MachineError
from stages.reconstruction import resume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "abc"


def write_checkpoint(folder: Path, step: int) -> Path:
    tag = resume.tag_of(step)
    (folder / tag).mkdir(parents=True)
    (folder / tag / "weights.pt").write_bytes(b"weights %d" % step)
    resume.prove(folder, tag, world=1)
    return folder / tag


def test_the_newest_whole_checkpoint_is_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert resume.newest(folder) is None
    assert "fresh start" in caplog.text
    write_checkpoint(folder, 9)
    write_checkpoint(folder, 100)
    assert resume.newest(folder) == "step_0000100"
    assert "resumed at step_0000100" in caplog.text


@pytest.mark.parametrize("damage", ["no manifest", "cut short", "flipped bit", "no file"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(folder: Path, damage: str) -> None:
    write_checkpoint(folder, 1)
    newer = write_checkpoint(folder, 2)
    weights = newer / "weights.pt"
    if damage == "no manifest":
        (newer / "manifest.json").unlink()
    elif damage == "no file":
        weights.unlink()
    else:
        data = weights.read_bytes()
        weights.write_bytes(data[:-1] + (b"" if damage == "cut short" else b"3"))
    assert resume.newest(folder) == "step_0000001"


def test_two_checkpoints_are_kept(folder: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(folder, step)
    assert sorted(path.name for path in folder.iterdir()) == ["step_0000002", "step_0000003"]


def test_a_changed_parameter_or_input_is_another_run_but_the_checkpoint_interval_is_not() -> None:
    here = resume.run_folder(make_options(), ["masks"])
    assert here == resume.run_folder(make_options(checkpoint_every_s=1.0), ["masks"])
    others = [
        resume.run_folder(make_options(pruner_lr=1e-5), ["masks"]),
        resume.run_folder(make_options(steps=7), ["masks"]),
        resume.run_folder(make_options(), ["other masks"]),
    ]
    assert len({here, *others}) == 4


def test_changed_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "_STAGES", tmp_path)
    (tmp_path / "reconstruction").mkdir()
    source = tmp_path / "reconstruction" / "losses.py"
    source.write_text("A = 1\n")
    before = resume.run_folder(make_options(), [])
    source.write_text("A = 22\n")
    assert resume.run_folder(make_options(), []) != before


def test_a_fresh_start_beside_other_runs_says_that_something_changed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_checkpoint(folder, 1)
    assert resume.newest(folder.parent / "other") is None
    assert "params, inputs or code differ from those of abc" in caplog.text


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_is_told_and_leaves_no_half_checkpoint(folder: Path, error: Exception) -> None:
    half = folder / "step_0000005"
    half.mkdir(parents=True)
    with pytest.raises(MachineError, match="room for a checkpoint"), resume.room_in(half):
        raise error
    assert not half.exists()


def test_other_errors_pass_unchanged(folder: Path) -> None:
    folder.mkdir(parents=True)
    with pytest.raises(RuntimeError, match="shapes"), resume.room_in(folder / "step_0000005"):
        raise RuntimeError("shapes differ")
