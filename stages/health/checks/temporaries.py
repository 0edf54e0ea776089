"""Unfinished files of processes that are gone: a kill leaves them, readers never see them."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from stages.health.finding import DATA, Finding
from stages.health.working import is_shared, stages_now, temporaries


def check(root: Path) -> Iterator[Finding]:
    """What dead processes left, if no stage runs and no other machine can write here."""
    dead = _dead(root)
    if not dead:
        yield Finding("temporaries", "ok", "none of a process that is gone")
        return
    size_mb = sum(path.stat().st_size for path in dead) / 1e6
    shown = ", ".join(str(path.relative_to(root)) for path in dead[:3]) + ", ..." * (len(dead) > 3)
    came = f"{len(dead)} of processes that are gone, {size_mb:.1f} MB: {shown}"
    if stages_now(root) or is_shared(root):
        then = "`fastdrive doctor` when no stage runs, and on the machine that wrote them"
        yield Finding("temporaries", "unknown", came, "none", then)
    else:
        yield Finding("temporaries", "warn", came, "none", "`fastdrive doctor --fix`", fixable=True, code=DATA)


def fix(root: Path) -> Iterator[str]:
    """Remove them."""
    for path in _dead(root):
        path.unlink(missing_ok=True)
        yield f"temporaries: removed {path.relative_to(root)}"


def _dead(root: Path) -> list[Path]:
    return [path for path, pid in temporaries(root) if not psutil.pid_exists(pid)]
