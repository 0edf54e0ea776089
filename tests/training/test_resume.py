import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import torch
from tiny_pruner import make_module, make_options

from stages.core import io
from stages.core.errors import MachineError
from stages.training import resume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "abc"


def write_checkpoint(folder: Path, step: int) -> Path:
    tag = resume.tag_of(step)
    pruner = make_module(make_options()).pruner
    resume.save(folder, tag, {"weight": torch.full((2,), float(step))}, {"step": step}, (pruner, {"layer": {}}))
    return folder / tag


def test_the_newest_whole_checkpoint_is_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert resume.newest(folder) is None
    assert "fresh start" in caplog.text
    write_checkpoint(folder, 9)
    write_checkpoint(folder, 100)
    assert resume.newest(folder) == "step_0000100"
    assert "resumed at step_0000100" in caplog.text


@pytest.mark.parametrize("damage", ["no manifest", "flipped bit", "no file"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(folder: Path, damage: str) -> None:
    write_checkpoint(folder, 1)
    newer = write_checkpoint(folder, 2)
    weights = newer / resume.TENSORS
    if damage == "no manifest":
        (newer / "manifest.json").unlink()
    elif damage == "no file":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x03")
    assert resume.newest(folder) == "step_0000001"


def test_the_last_checkpoints_and_the_best_are_kept_and_halves_are_not(folder: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        write_checkpoint(folder, step)
    (folder / "step_0000006").mkdir()
    resume.drop_old(folder, 2, "step_0000001")
    assert sorted(path.name for path in folder.iterdir()) == ["step_0000001", "step_0000004", "step_0000005"]


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
    (tmp_path / "train_pruner.py").touch()
    (tmp_path / "backbone").mkdir()
    source = tmp_path / "backbone" / "qwen.py"
    source.write_text("A = 1\n")
    before = resume.run_folder(make_options(), [])
    source.write_text("A = 22\n")
    assert resume.run_folder(make_options(), []) != before


def test_a_disk_that_is_full_is_told_and_leaves_no_half_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(folder, 5)
    whole, room = io.atomic_write, iter([True] * 5)

    @contextmanager
    def full(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
        with whole(path, sync) as file:
            yield file
            if not next(room, False):
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(io, "atomic_write", full)
    with pytest.raises((MachineError, OSError), match="No space left"):
        write_checkpoint(folder, 6)
    assert not (folder / "step_0000006").exists()
    assert resume.newest(folder) == "step_0000005"
