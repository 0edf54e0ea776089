"""Lines of JSON that are appended to a file of bounded size, and that cost no work when the disk is full."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MOST_BYTES = 2_000_000  # then the file becomes <name>.old, and what was there before goes
_failed: set[Path] = set()


def append_line(path: Path, record: Mapping[str, Any], most_bytes: int = MOST_BYTES) -> bool:
    """Append `record`; False, with one warning for each file, where that cannot be done (disk full, read-only).

    Several processes may append: a line is one write. What a full disk or a kill cut short stays a line of its own.
    """
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size + len(line) > most_bytes:
            os.replace(path, path.with_suffix(".old"))
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            cut_short = size and os.pread(file, 1, size - 1) != b"\n"
            os.write(file, b"\n" + line if cut_short else line)
        finally:
            os.close(file)
    except OSError as error:
        if path not in _failed:
            log.warning("not written to %s: %s (the work goes on)", path, error.strerror)
            _failed.add(path)
        return False
    return True


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file and of what was there before it, oldest first; lines that are no JSON are left out."""
    found = []
    for part in (path.with_suffix(".old"), path):
        lines = part.read_text(encoding="utf-8", errors="replace").splitlines() if part.is_file() else []
        found += [record for line in lines if isinstance(record := _read(line), dict)]
    return found


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
