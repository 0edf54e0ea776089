"""Whether a stage works in a checkout now: what looks half-written may be just being written."""

import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from stages.core.tracking import UNSENT, is_live

FOLDERS = ("data", "models", "results", "reports", "metrics", "runs")
REMOTE = re.compile(r"nfs|cifs|smb|ceph|lustre|gpfs|9p|sshfs|glusterfs|beegfs")


def stages_now(root: Path) -> list[str]:
    """The names of the stages that run now; their record files are locked."""
    files = sorted((root / UNSENT).glob("*.jsonl"))
    return [re.sub(r"^\d+-|-[0-9a-f]{8}$", "", file.stem) for file in files if is_live(file)]


def is_shared(root: Path) -> bool:
    """Whether other machines may write here: a process number says nothing of them."""
    at = root.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if at.is_relative_to(part.mountpoint)]
    nearest = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    return nearest is not None and bool(REMOTE.search(nearest.fstype))


def temporaries(root: Path) -> Iterator[tuple[Path, int]]:
    """Unfinished files that our own writers left, with the process that began each.

    Links are not followed, and the images of a data set not walked: no stage writes there but make_world, which empties
    its folder first.
    """
    ours = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.tmp")
    # `mlflow.db.20261127` is a person's copy
    database, lock = r"mlflow\.db\.(\d+)\.tmp(?:-journal|-wal|-shm)?", r"\.dvc\.lock(?:\.good|\.damaged)?\.(\d+)"
    beside = re.compile(f"{database}|{lock}")
    for folder in (root, root / ".dvc/tmp"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if (found := beside.fullmatch(path.name)) and path.is_file():
                yield path, int(found[1] or found[2])
    for folder in map(root.joinpath, FOLDERS):
        for path in _walk(folder):
            if found := ours.fullmatch(path.name):
                yield path, int(found[1])


def _walk(folder: Path) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if not path.is_dir():
            yield path
        elif path.name not in ("samples", "sweeps"):
            yield from _walk(path)
