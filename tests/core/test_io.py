"""Files that are whole or absent, whatever happens on the way."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from stages.core import io
from stages.core.errors import DataError, MachineError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    io.write_json(target, {"old": 1})

    def half() -> None:
        with io.atomic_write(target) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert os.listdir(tmp_path) == ["a.json"]
    assert io.read_json(target, "x") == {"old": 1}


@pytest.mark.process
def test_a_lock_waits_for_a_living_process_and_not_for_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    program = f"""
import sys, time
from pathlib import Path
from stages.core.io import alone
with alone(Path({str(path)!r}), "work"):
    print("in", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "in\n"
    held = pytest.raises(MachineError, match=r"another process that holds .*\.lock")
    with held, io.alone(path, "work", patience_s=0.2):
        raise AssertionError("two are alone")
    process.kill()
    path.unlink()  # with its folder, at the end of a run: a lock on what was removed keeps nobody out
    with io.alone(path, "work", patience_s=30.0):
        process.communicate()


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"No space left.*free some space"):
        io.write_text(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == []


def test_nan_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json(tmp_path / "a.json", {"x": float("nan")})
    (tmp_path / "b.json").write_text('{"x": NaN}')
    with pytest.raises(DataError, match="NaN is not a JSON number"):
        io.read_json(tmp_path / "b.json", "make it")


def test_a_folder_is_read_only_with_its_manifest(tmp_path: Path) -> None:
    io.write_text(tmp_path / "a", "text")
    with pytest.raises(DataError, match=r"without its manifest.*run `make it`"):
        io.read_manifest(tmp_path, "make it")
    io.write_manifest(tmp_path, [tmp_path / "a"], {"n": 1})
    assert io.read_manifest(tmp_path, "make it") == {"n": 1}
    with pytest.raises(DataError, match="no such folder"):
        io.read_manifest(tmp_path / "other", "make it")


@pytest.mark.parametrize("damage", [b"texx", b"tex", b""])
def test_a_changed_file_of_a_complete_folder_is_refused(tmp_path: Path, damage: bytes) -> None:
    io.write_text(tmp_path / "a", "text")
    io.write_manifest(tmp_path, [tmp_path / "a"], {})
    (tmp_path / "a").write_bytes(damage)
    with pytest.raises(DataError, match="run `make it`"):
        io.check_file(tmp_path, "a", "make it")
    if len(damage) != 4:  # the size alone tells
        with pytest.raises(DataError, match="of 4 bytes"):
            io.read_manifest(tmp_path, "make it")


def test_every_flipped_bit_of_a_parquet_is_found(tmp_path: Path) -> None:
    target = tmp_path / "t.parquet"
    table = pa.table({"token": [f"{i:08x}" for i in range(50)], "value": [float(i) for i in range(50)]})
    io.write_parquet(target, table)
    whole = target.read_bytes()
    silent = 0
    for position in range(8, len(whole) - 900, 7):
        target.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            silent += not io.read_parquet(target, "make it").equals(table)
        except DataError:
            continue
    assert silent == 0


def test_a_fingerprint_depends_on_values_and_not_on_their_order() -> None:
    assert io.fingerprint({"a": 1, "b": 2}) == io.fingerprint({"b": 2, "a": 1})
    assert io.fingerprint({"a": 1}) != io.fingerprint({"a": 2})


def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    old, new = b"old" * 1000, b"new" * 2000
    for point in range(12):  # more audit events than one write has
        io.write_bytes(target, old)
        child = os.fork()
        if child == 0:
            seen = 0

            def hook(event: str, arguments: tuple[object, ...], point: int = point) -> None:
                nonlocal seen
                if event in ("open", "os.rename"):
                    seen += 1
                    if seen > point:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            io.write_bytes(target, new)
            os._exit(0)
        os.waitpid(child, 0)
        assert target.read_bytes() in (old, new)
