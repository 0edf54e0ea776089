"""One process at a time moves the aliases of a registered model, also on two machines with one MLflow server.

MLflow has no compare-and-set, but it makes a registered model of a name only once: whoever makes `<name>.turn` has the
turn, and removes it when done. A process that was killed leaves it behind: of this checkout it is seen at once (the
lock on a file ended with its process), of another machine when it has not changed for longer than any move takes.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from stages.core.errors import DataError, GateError, MachineError
from stages.core.io import alone
from stages.registry.versions import Registry, make_once

log = logging.getLogger(__name__)

LOCK = Path(".local/registry.lock")
STALE_S = 60.0  # a move takes a second; nobody's clock is compared, each waits by its own
PATIENCE_S = 90.0
LATE_MS = 600_000  # nobody tries for so long to end the same turn


@contextmanager
def turn(registry: Registry, patience_s: float = PATIENCE_S, stale_s: float = STALE_S) -> Iterator[Callable[[], None]]:
    """Inside, nobody else moves aliases of `registry`. Raises GateError when another holds on for `patience_s`.

    Gives what a long block calls before each write: it renews the turn where a quarter of `stale_s` has passed, and
    raises GateError when another took it for dead and ended it.
    """
    owner = f"{socket.gethostname()}:{Path.cwd()}"
    holder = {"owner": owner, "pid": os.getpid(), "turn": uuid.uuid4().hex}
    with alone(LOCK, f"move the aliases of {registry.name}", patience_s):
        _take(registry, holder, patience_s, stale_s)
        try:
            yield partial(_renew, registry, holder, [time.monotonic()], stale_s / 4)
        finally:
            _give_back(registry, str(holder["turn"]))


def _name(registry: Registry) -> str:
    return f"{registry.name}.turn"


def _take(registry: Registry, holder: dict[str, object], patience_s: float, stale_s: float) -> None:
    began_s = seen_s = time.monotonic()
    seen: dict[str, object] = {}
    while True:
        with registry.answering("the turn to move its aliases"):
            if make_once(registry.client, _name(registry), {"holder": json.dumps(holder)}):
                return
        now = _holder(registry)
        if now != seen:
            seen, seen_s = now, time.monotonic()
        dead = now.get("owner") == holder["owner"]  # we hold the file that a living one of this checkout would hold
        if now and (dead or time.monotonic() - seen_s >= stale_s):
            _end(registry, str(now["turn"]))
        elif time.monotonic() - began_s >= patience_s:
            came = f"another that moves them: {now.get('owner')}, process {now.get('pid')}"
            raise GateError(
                expected=f"to move the aliases of {registry.name}", got=came, fix="wait for it, and try again"
            )
        else:
            time.sleep(0.2)


def _holder(registry: Registry) -> dict[str, object]:
    """Who has the turn; empty when it was given back meanwhile."""
    with registry.answering("whose turn it is"):
        found = registry.client.search_registered_models(f"name = '{_name(registry)}'")
        holder: dict[str, object] = json.loads(found[0].tags["holder"]) if found else {}
        return holder


def _end(registry: Registry, turn_id: str) -> None:
    """End the turn of a dead process. Of two that try, one succeeds: the new name carries that turn's id, and a name is
    given once. It stays for those that come late.
    """
    with suppress(DataError), registry.answering("to end a turn that was left behind"):
        registry.client.rename_registered_model(_name(registry), f"{_name(registry)}.{turn_id}")


def _renew(registry: Registry, holder: dict[str, object], last_s: list[float], every_s: float) -> None:
    """Let those who wait see that we live."""
    if time.monotonic() - last_s[0] < every_s:
        return
    now = _holder(registry)
    if now.get("turn") != holder["turn"]:
        came = f"it ended, it is that of {now.get('owner', 'nobody')} now: we were silent for too long"
        raise GateError(
            expected=f"to go on moving the aliases of {registry.name} in our turn", got=came, fix="look, and try again"
        )
    with registry.answering("to renew the turn"):
        text = json.dumps(holder | {"renewed": uuid.uuid4().hex})
        registry.client.set_registered_model_tag(_name(registry), "holder", text)
    last_s[0] = time.monotonic()


def _give_back(registry: Registry, turn_id: str) -> None:
    """Remove our turn, and what is left of those that were ended long before it, by the server's clock alone.

    Another's turn stays. Only a warning when ours cannot be removed: what was done in it is done, and it ends
    by itself.
    """
    name = _name(registry)
    try:
        with registry.answering("to give back the turn"):
            found = registry.client.search_registered_models(f"name LIKE '{name}%'")
            ours = [turn for turn in found if turn.name == name and json.loads(turn.tags["holder"])["turn"] == turn_id]
            if not ours:
                log.warning("the turn of %s ended before we gave it back: another took us for dead", registry.name)
                return
            registry.client.delete_registered_model(name)
            for ended in (turn for turn in found if turn.name.startswith(f"{name}.")):
                if ours[0].creation_timestamp - ended.last_updated_timestamp > LATE_MS:
                    registry.client.delete_registered_model(ended.name)
    except (DataError, MachineError) as error:
        log.warning("the turn was not given back: %s", error)
