"""Atomic files, and folders whose manifest proves them complete. All writing goes through here.

Order of a write: temporary name in the same folder, write, flush, fsync, rename, fsync the folder. Manifest last.
"""

import errno
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stages.core.errors import DataError, MachineError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"


@contextmanager
def alone(path: Path, what: str, patience_s: float = math.inf) -> Iterator[None]:
    """Hold the lock on the file `path` while `what` is done; it ends with the process that holds it, killed or not.

    Waits for another process; raises MachineError when that takes over `patience_s`.
    """
    began_s = time.monotonic()
    for attempt in count():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            if lock(file, path):
                yield
                return
        waited_s = time.monotonic() - began_s
        if waited_s >= patience_s:
            got = f"another process that holds {path} for over {waited_s:.0f} s"
            raise MachineError(expected=f"to {what} alone", got=got, fix="wait for that process, or stop it")
        if not attempt:
            log.info("waiting for another process to %s (%s)", what, path)
        time.sleep(0.1)


def lock(file: IO[str], path: Path) -> bool:
    """Lock `file` and return True; False when another process has the lock, or has removed the file of `path`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def atomic_write(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path` only when the block ends well.

    `sync=False` is for thousands of small files before one manifest: call `os.sync` once, then write the manifest.
    Raises MachineError when the disk is full; the temporary file is removed and what stood at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        raise MachineError(
            expected=f"room to write {path}",
            got=f"{error.strerror} ({free_mb:.0f} MB free there)",
            fix="free some space and run the same command again; nothing half-written is left",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write `data` under `path`, whole or not at all; `sync` as in `atomic_write`."""
    with atomic_write(path, sync) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text under `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys; NaN and infinity are refused with ValueError."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, made_by: str) -> Any:
    """Return the JSON value in `path`, made by the command `made_by`. Raises DataError when missing or damaged."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise DataError(expected=f"{path}", got="no such file", fix=f"run `{made_by}`") from None
    except ValueError as error:
        raise DataError(expected=f"JSON in {path}", got=str(error), fix=f"run `{made_by}`") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def write_parquet(path: Path, table: "pa.Table") -> None:
    """Write a table with a checksum on every page (without it one flipped bit in two is read as a value)."""
    import pyarrow.parquet as pq

    with atomic_write(path) as file:
        pq.write_table(table, file, write_page_checksum=True, compression="zstd")


def read_parquet(path: Path, made_by: str, columns: Sequence[str] | None = None) -> "pa.Table":
    """Return the table in `path`, of `columns` those that it has. Raises DataError when it is missing or damaged."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(expected=f"{path}", got="no such file", fix=f"run `{made_by}`")
    try:
        names = None if columns is None else list(columns)
        return pq.read_table(path, columns=names, page_checksum_verification=True)
    except OSError as error:
        raise DataError(expected=f"an undamaged table in {path}", got=str(error), fix=f"run `{made_by}`") from error


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read once per process and state of the file."""
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


def fingerprint(*parts: object) -> str:
    """Return a short hash of JSON-able values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hashes(*folders: Path) -> dict[str, str]:
    """Return path -> sha256 of the Python files under `folders`, for the fingerprint of a resume state."""
    return {str(path): sha256(path) for folder in folders for path in sorted(folder.rglob("*.py"))}


def write_manifest(folder: Path, files: Sequence[Path], notes: Mapping[str, object]) -> None:
    """Write size and sha256 of each of the `files`, with `notes`: the last write, which marks `folder` complete."""
    entries = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(files)
    }
    write_json(folder / MANIFEST, {"files": entries, "notes": dict(notes)})


def read_manifest(folder: Path, made_by: str) -> dict[str, Any]:
    """Return the notes of a complete folder; sizes are checked here, each sha256 by `check_file` at first use.

    Raises DataError when the folder, its manifest or a file is missing, or a size is wrong.
    """
    if not (folder / MANIFEST).is_file():
        got = "a folder without its manifest (an interrupted run?)" if folder.is_dir() else "no such folder"
        raise DataError(expected=f"a complete {folder}", got=got, fix=f"run `{made_by}`")
    manifest = read_json(folder / MANIFEST, made_by)
    for name, entry in manifest["files"].items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else math.nan
        if size != entry["size"]:
            got = "no such file" if math.isnan(size) else f"{size} bytes"
            raise DataError(expected=f"{folder / name} of {entry['size']} bytes", got=got, fix=f"run `{made_by}`")
    return manifest["notes"]


def check_file(folder: Path, name: str, made_by: str) -> Path:
    """Return the path of a file whose sha256 is the manifest's. Raises DataError otherwise."""
    manifest = read_json(folder / MANIFEST, made_by)
    expected = manifest["files"].get(name, {}).get("sha256")
    got = sha256(folder / name) if (folder / name).is_file() else "no such file"
    if expected != got:
        raise DataError(expected=f"{folder / name} with sha256 {expected}", got=got, fix=f"run `{made_by}`")
    return folder / name
