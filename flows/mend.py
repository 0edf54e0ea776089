"""What a kill leaves of the files that DVC writes in place, told and undone."""

import fcntl
import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

log = logging.getLogger(__name__)

MERGED = b"<<<<<<< "


def mend(root: Path, look: bool = False) -> list[str]:
    """Undo what a kill in the wrong millisecond leaves of DVC 3.67 (it writes two files in place), else keep a copy.

    A damaged dvc.lock goes to .dvc/tmp/dvc.lock.damaged and is replaced by the copy of the last good one, else by the
    committed one, else by none; a rwlock that is damaged, or of processes that are gone, is removed. A file that a
    running DVC holds is left alone.
    Returns a line for each fault; with `look` that is all.
    """
    tmp = root / ".dvc/tmp"
    lock, kept, rwlock = root / "dvc.lock", tmp / "dvc.lock.good", tmp / "rwlock"
    faults: list[str] = []
    with _unless_held(tmp / "lock") as free:
        if free and lock.is_file():
            if MERGED in lock.read_bytes():
                faults.append(f"{lock} is in a merge that is not over")  # both sides are somebody's: left alone
            elif not _is_lock(lock.read_bytes()):
                faults.append(f"{lock} is no lock of DVC: cut short by a kill, or edited")
                if not look:
                    _restore(lock, kept)
            elif not look:
                _replace(kept, lock.read_bytes())
    with _unless_held(tmp / "rwlock.lock") as free:
        if free and rwlock.is_file() and (fault := _fault_of_rwlock(rwlock.read_bytes())):
            faults.append(f"{rwlock} {fault}")
            if not look:
                rwlock.unlink()
                log.warning("removed %s, which %s", rwlock, fault)
    return faults


def _restore(lock: Path, kept: Path) -> None:
    _replace(kept.with_name("dvc.lock.damaged"), lock.read_bytes())  # a person may have edited it by hand
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
        reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where yaml has it: a tenth of the time
        lock: Any = reader(data).get_single_data()
        entries = list((lock.get("stages") or {}).values())
        files = [file for entry in entries for file in [*entry.get("deps", []), *entry.get("outs", [])]]
        return lock.get("schema") == "2.0" and all("cmd" in entry for entry in entries) and all(map(_is_hashed, files))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError):
        return False


def _is_hashed(file: dict[str, Any]) -> bool:
    return "path" in file and any(isinstance(file.get(kind), str) for kind in ("md5", "etag", "checksum"))


def _fault_of_rwlock(data: bytes) -> str:
    """What is wrong with DVC's list of who reads and writes which path; empty when nothing is."""
    try:
        held = json.loads(data)
        readers = [holder for holders in held.get("read", {}).values() for holder in holders]
        holders = [*readers, *held.get("write", {}).values()]
        gone = [holder["pid"] for holder in holders if not _holds(int(holder["pid"]), str(holder["cmd"]))]
    except (ValueError, AttributeError, TypeError, KeyError):
        return "was damaged by a kill"
    # DVC forgets the dead itself, but not a zombie, nor another process that got the number
    return f"names processes that are gone: {sorted(set(gone))}" if holders and len(gone) == len(holders) else ""


def _holds(pid: int, cmd: str) -> bool:
    """Whether process `pid` is a DVC, or whoever was called with the words `cmd`; in doubt it is."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        called = any("dvc" in (Path(word).name, Path(word).parent.name) for word in words)
        return process.status() != psutil.STATUS_ZOMBIE and (called or cmd.endswith(" ".join(words[-1:])))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


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
