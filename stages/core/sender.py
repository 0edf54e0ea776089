"""The second process, which sends what stages record: started by the first, it stays a while for the next ones."""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stages.core.io import read_json, write_text
from stages.core.spool import is_live, refusal, sidecar

log = logging.getLogger(__name__)

FLUSH_S = 10
LAST_FLUSH_S = 15  # the longest that a stage's end waits for a server
QUIET_S = 3  # a lock that has not been written to for so long is whole
IDLE_S = 30  # how long the sender waits for the next stage: its own start costs 5 s of a core


def start(folder: Path) -> None:
    """One sender per checkout, in a session of its own, so that a kill of the stage still gets recorded.

    It inherits the lock that says it runs: no second one is started while it still starts. One that sends to another
    store than this stage wants gives up by itself.
    """
    write_text(folder / "store", _store())
    code = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, code))}
    with open(folder / "sender.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        os.set_inheritable(lock.fileno(), True)
        said = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / "sender.log"), said, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = [sys.executable, "-m", "stages.core.tracking", "follow"]
        os.posix_spawn(sys.executable, command, env, file_actions=files, setsid=True)


def _store() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def wait_until_sent(spool: Path) -> None:
    """Wait until the run is sent, or refused, or the patience is over.

    Not between the stages of a pipeline that records in a file: there the sender works on while the next one starts.
    """
    if os.environ.get("DVC_STAGE") and not _store():
        return
    began = time.monotonic()
    patience_s = LAST_FLUSH_S if _store() else 8 * LAST_FLUSH_S  # a file always answers
    said = ""
    while spool.exists() and not said and not is_over(spool):
        if time.monotonic() - began > patience_s:
            said = f"no answer within {patience_s} s"
        elif refusal(spool).is_file():
            said = refusal(spool).read_text(encoding="utf-8")
        else:
            start(spool.parent)  # the one that ran may just have given up waiting for a stage
            time.sleep(0.1)
    if said:
        log.warning("tracking: not sent (%s); kept in %s, next: `python -m stages.core.tracking`", said, spool.parent)


def is_over(spool: Path) -> bool:
    """Whether all of a run is sent but the hashes that DVC has yet to write."""
    done = read_json(sidecar(spool), "python -m stages.core.tracking") if sidecar(spool).is_file() else {}
    return "ended" in done and not lock_newer_than(done["ended"])


def lock_newer_than(time_s: float) -> bool:
    """Whether DVC has written its lock since, and is done with it: it writes in place, a large one for seconds."""
    lock = Path("dvc.lock")
    written_s = lock.stat().st_mtime if lock.is_file() else 0.0
    return time_s < written_s < time.time() - QUIET_S


def follow(folder: Path, send: Callable[[], int]) -> None:
    """Send every ten seconds, at once when a run ends; until no stage has run for half a minute and all is sent."""
    refused: set[Path] = set()
    sent_at = live_at = time.monotonic()
    while time.monotonic() - live_at < IDLE_S and (folder / "store").read_text(encoding="utf-8") == _store():
        spools = set(folder.glob("*.jsonl"))
        dead = {spool for spool in spools if not is_live(spool) and not is_over(spool)}
        if dead - refused or time.monotonic() - sent_at > FLUSH_S:
            refused = dead if send() else set()
            sent_at = time.monotonic()
        # A stage can end while its events are being sent for longer than that half minute
        if any(not is_over(spool) for spool in set(folder.glob("*.jsonl")) - refused):
            live_at = time.monotonic()
        time.sleep(0.2)
