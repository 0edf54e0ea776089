"""Every writer on a disk that is full after some bytes: exit class 4, nothing half-written, the old result kept.

A real full disk is a small tmpfs, which only root can mount; a limit on the size of a file everybody can set.
"""

import ctypes
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from stages.core import io
from stages.core.errors import MachineError
from stages.core.tracking import Run
from stages.masks.base import Mask
from stages.masks.mask_set import write_shard
from stages.pruning import checkpoint

DISK = 256 * 1024
CLONE_NEWNS = 0x20000  # of unshare(2): mounts of our own
NOISE = np.random.default_rng(0)


def parquet(folder: Path) -> None:
    io.write_parquet(folder / "rows.parquet", pa.table({"l2_cm": NOISE.random(6000)}))


def shard(folder: Path) -> None:
    boxes = np.zeros((0, 4), np.float32)
    masks = ((f"{n:032x}", Mask(NOISE.random((200, 200)) < 0.5, (), boxes)) for n in range(8))
    write_shard(folder / "val-0000.tar", masks)


def weights(folder: Path) -> None:
    checkpoint.save(folder, torch.nn.Linear(100, 120), {"width": 100})


def record(folder: Path) -> None:
    run = Run(folder / "1-stage-0123abcd.jsonl", {})
    try:
        for _ in range(60):
            run.tags({"note": "x" * 1000})
    finally:
        with suppress(OSError):
            run._file.close()  # has buffered lines that find no room


WRITERS: dict[str, Callable[[Path], None]] = {
    "json": lambda folder: io.write_json(folder / "a.json", NOISE.random(3000).tolist()),
    "parquet": parquet,
    "shard": shard,
    "weights": weights,
    "record": record,
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tmpfs that only this process sees: it goes with it, however it ends."""
    folder = tmp_path_factory.mktemp("disk")
    if os.geteuid() or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        pytest.skip("only root mounts a tmpfs")
    private = ["mount", "--make-rprivate", "/"]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    if any(subprocess.run(words, capture_output=True).returncode for words in (private, mount)):
        pytest.skip("this container mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_an_error_and_with_room_the_same_call_succeeds(writer: str, disk: Path) -> None:
    folder, filler = disk / "work", disk / "filler"
    for path in disk.rglob("*"):
        if path.is_file():
            path.unlink()
    folder.mkdir(exist_ok=True)
    free = os.statvfs(disk)
    filler.write_bytes(b"0" * max(0, free.f_bavail * free.f_frsize - 4096))
    with pytest.raises(MachineError) as refusal:
        WRITERS[writer](folder)
    assert refusal.value.exit_code == 4
    assert "No space left" in refusal.value.got
    assert not [name for name in left(folder) if name.endswith(".tmp") or name == io.MANIFEST]
    for path in folder.rglob("*"):
        if path.is_file():  # the first of several files may be whole; readers refuse a folder without its manifest
            path.unlink()
    filler.unlink()
    WRITERS[writer](folder)
    assert left(folder)


@pytest.mark.parametrize("writer", ["json", "parquet", "shard"])
def test_a_writer_that_meets_a_limit_leaves_what_stood_there(writer: str, tmp_path: Path) -> None:
    WRITERS[writer](tmp_path)
    (path,) = (path for path in tmp_path.iterdir())
    before = path.read_bytes()
    assert in_a_child(lambda: WRITERS[writer](tmp_path), 10_000) == 4
    assert path.read_bytes() == before
    assert left(tmp_path) == {path.name}


def in_a_child(work: Callable[[], None], limit: int) -> int:
    """The exit class of `work` in a fork in which no file may grow past `limit` bytes."""
    child = os.fork()
    if not child:
        code = 0
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            work()
        except MachineError as error:
            code = error.exit_code
        except BaseException:
            code = 99
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
