"""The ports of `make serve`, and who holds them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from stages.health.asking import LOCAL
from stages.health.finding import Finding

PORTS = {"mlflow": 5000, "prefect": 4200, "worker": 4201}  # as flows/services.py


def check(root: Path) -> Iterator[Finding]:
    """A finding for each port that another than this checkout's `make serve` holds, or that all the world may reach."""
    serving = _is_serving(root)
    listening = [held for held in psutil.net_connections("tcp") if held.status == psutil.CONN_LISTEN]
    for name, usual in PORTS.items():
        setting = f"FASTDRIVE_{name.upper()}_PORT"
        said = os.environ.get(setting) or str(usual)
        holders = [held for held in listening if str(held.laddr.port) == said]
        who = ", ".join(sorted({_who(held.pid) for held in holders}))
        if not holders:
            yield Finding("ports", "ok", f"{said} ({name}) is free")
        elif open_to := [held.laddr.ip for held in holders if held.laddr.ip not in LOCAL]:
            then = f"bind it to 127.0.0.1: whoever reaches it may run code here (`ss -ltnp 'sport = :{said}'`)"
            yield Finding("ports", "warn", f"{said} ({name}) on {open_to[0]}: {who}", "loopback alone", then)
        elif serving:
            yield Finding("ports", "ok", f"{said} ({name}) is held by `make serve` of this checkout")
        else:
            then = f"stop it, or `{setting}=<another> make serve`"
            yield Finding("ports", "warn", f"{said} ({name}) is held by {who}", "a free port for `make serve`", then)


def _is_serving(root: Path) -> bool:
    with suppress(FileNotFoundError), open(root / ".local/serve.lock", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _who(pid: int | None) -> str:
    """Name and number of a process; only root sees those of others."""
    with suppress(psutil.Error):
        return f"{psutil.Process(pid).name()} ({pid})" if pid else "another user's process"
    return f"process {pid}"
