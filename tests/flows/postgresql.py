"""A PostgreSQL of Debian's package for one test: on a free port of loopback, with a password, gone behind it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

import pytest
from stack import free_port

PASSWORD = "p%40ss"  # "p@ss" as it stands in an address
INSTALL = (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"])


def programs() -> Path:
    """The folder with initdb and pg_ctl, installed where this machine lets us; skips the test otherwise."""
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in INSTALL:
            subprocess.run(words, capture_output=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    found = _found()
    if not found:
        pytest.skip("no PostgreSQL here and none could be installed; next: apt-get install postgresql, as root")
    return found[-1]


def _found() -> list[Path]:
    return [Path(path).parent for path in sorted(glob("/usr/lib/postgresql/*/bin/initdb"))]


@contextmanager
def postgresql() -> Iterator[str]:
    """Its address, with a database `fast` that is empty."""
    bin_, home, port = programs(), Path(tempfile.mkdtemp(prefix="fastdrive-pg-")), free_port()
    user: dict[str, Any] = {"user": "nobody", "cwd": home} if os.geteuid() == 0 else {"cwd": home}  # never as root
    (home / "password").write_text("p@ss")
    if user.get("user"):
        for path in (home, home / "password"):
            shutil.chown(path, "nobody")

    def do(*words: str | Path) -> None:
        _run([str(word) for word in words], user)

    try:
        do(bin_ / "initdb", "-D", home / "data", "-U", "ann", "--auth=scram-sha-256", f"--pwfile={home}/password")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {home} -c fsync=off"
        do(bin_ / "pg_ctl", "-D", home / "data", "-l", home / "log", "-o", options, "-w", "start")
        try:
            env = os.environ | {"PGPASSWORD": "p@ss"}
            at = ["-h", "127.0.0.1", "-p", str(port), "-U", "ann", "fast"]
            subprocess.run([bin_ / "createdb", *at], check=True, env=env)
            yield f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/fast"
        finally:
            do(bin_ / "pg_ctl", "-D", home / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home)


def _run(words: Sequence[str], user: dict[str, Any]) -> None:
    # No pipe: the server that pg_ctl leaves behind would hold it
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
    assert done.returncode == 0, words
