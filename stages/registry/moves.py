"""Who is champion: aliases moved in an order that readers never notice, and mended after a kill.

What is going to be written is first noted on the registered model, then `previous` is set, then `champion` (one write
each, so there is always one), then the tags that say who and why; last the note goes. A note that is found is the work
of a process that died: with the champion not yet moved it is undone, otherwise it is finished.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from stages.core.errors import GateError
from stages.registry.turn import turn
from stages.registry.versions import Registry

log = logging.getLogger(__name__)

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
NOTE = "move.pending"
GONE = "rollback.reason"  # on the version that was taken back; a verdict from before is none any more
PROMOTE = "python -m flows.promote"
ROLLBACK = 'python -m flows.rollback --reason "..."'


@dataclass(frozen=True)
class Move:
    """One change of champion, with the aliases before and after; empty: no such alias."""

    kind: str  # promotion or rollback
    champion: str
    champion_before: str
    previous: str
    previous_before: str
    by: str
    reason: str
    at: str  # UTC
    flow_run: str


def promote(registry: Registry, number: str, champion: str, by: str, reason: str, flow_run: str = "") -> Move | None:
    """Make version `number` the champion in the place of version `champion`, the one its verdict held it against.

    None when it is champion already. Raises GateError when another has become champion meanwhile, and for a version
    that was rolled back.
    """
    with turn(registry) as renew:
        mend(registry)
        aliases = registry.aliases()
        now = aliases.get(CHAMPION, "")
        if now == number:
            return None
        if why := registry.version(number).tags.get(
            GONE
        ):  # read in our turn: a rollback may have come behind the verdict
            raise GateError(
                expected=f"a version of {registry.name} that was never rolled back",
                got=f"version {number}, rolled back: {why}",
                fix=f"promote another; or remove its tag {GONE} and judge it again: `{PROMOTE} --version {number}`",
            )
        if now != champion:
            raise GateError(
                expected=f"{_named(champion)} to be champion of {registry.name}, as when version {number} was judged",
                got=f"{_named(now)}: another promotion or a rollback was first",
                fix=f"judge it again: `{PROMOTE} --version {number}`",
            )
        move = Move("promotion", number, now, now, aliases.get(PREVIOUS, ""), by, reason, _utc(), flow_run)
        _do(registry, move, renew)
        return move


def rollback(registry: Registry, by: str, reason: str, flow_run: str = "", champion: str = "") -> Move:
    """Make `previous` champion again; `previous` is then the one before it, where there was one. No version that was
    rolled back comes back so.

    `champion`, where given, is the version that is to go: asked twice, it goes once. Raises GateError when there is no
    previous version, or another champion.
    """
    with turn(registry) as renew:
        mend(registry)
        aliases = registry.aliases()
        now = aliases.get(CHAMPION, "")
        if champion not in ("", now):
            came = f"{_named(now)}; it has gone already, or another was promoted"
            raise GateError(
                expected=f"{_named(champion)} to be champion of {registry.name}", got=came, fix="look again"
            )
        before, earlier, *_ = [*_to_go_back_to(registry, now, aliases.get(PREVIOUS, "")), "", ""]
        if not before:
            raise GateError(
                expected=f"a previous version of {registry.name} to go back to",
                got=f"champion = {now or 'none'}, no previous",
                fix=f"promote another: `{PROMOTE}`",
            )
        was = aliases.get(PREVIOUS, "")
        move = Move("rollback", before, now, earlier, was, by, reason, _utc(), flow_run)
        _do(registry, move, renew)
        return move


def _to_go_back_to(registry: Registry, champion: str, previous: str) -> list[str]:
    """Versions to be champion after `champion`, the latest first: `previous`, then those before it by the history."""
    stack: list[str] = []
    for move in history(registry):
        if move.kind == "rollback":  # what it took away was on top
            stack = stack[: len(stack) - stack[::-1].index(move.champion) - 1] if move.champion in stack else stack[:-1]
        stack.append(move.champion)
    usable = {version.number for version in registry.versions() if GONE not in version.tags} - {champion}
    return [number for number in dict.fromkeys([previous, *reversed(stack)]) if number in usable]


def mend(registry: Registry) -> str:
    """Undo or finish what a killed process began; what was done, empty for nothing. Call it in one's turn only."""
    tags = registry.tags()
    if NOTE not in tags:
        return ""
    move = Move(**json.loads(tags[NOTE]))
    if registry.aliases().get(CHAMPION, "") == move.champion:
        said = "finished"
        _say(registry, move)
    else:
        said = "undone"
        _point(registry, PREVIOUS, move.previous_before)
    registry.tag({NOTE: None})
    log.warning("a %s of %s to version %s was killed half-way: %s", move.kind, registry.name, move.champion, said)
    return said


def _do(registry: Registry, move: Move, renew: Callable[[], None]) -> None:
    renew()
    registry.tag({NOTE: json.dumps(asdict(move))})
    if move.kind == "promotion":  # in a rollback it says where to go back to until the champion has moved
        _point(registry, PREVIOUS, move.previous)
    renew()
    registry.point(CHAMPION, move.champion)
    renew()
    _say(registry, move)
    renew()
    registry.tag({NOTE: None})


def _say(registry: Registry, move: Move) -> None:
    """All that follows the move of the champion; may be done twice."""
    _point(registry, PREVIOUS, move.previous)
    if registry.aliases().get(CANDIDATE) == move.champion:
        registry.point(CANDIDATE, None)
    about = {"by": move.by, "reason": move.reason, "at": move.at}
    about |= {"flow_run": move.flow_run} if move.flow_run else {}
    if move.kind == "promotion":
        registry.tag(_tags("promotion", about | {"previous": move.champion_before or "none"}), move.champion)
    else:
        gone = move.champion_before
        registry.tag(_tags("rollback", about | {"to": move.champion}), gone)
        if "gate.passed" in registry.version(gone).tags:
            registry.tag({"gate.passed": None}, gone)
    registry.tag({f"history.{move.at}": json.dumps(asdict(move))})


def _tags(kind: str, about: Mapping[str, Any]) -> dict[str, str | None]:
    return {f"{kind}.{key}": str(value) for key, value in about.items() if value}


def _point(registry: Registry, alias: str, number: str) -> None:
    if registry.aliases().get(alias, "") != number:
        registry.point(alias, number or None)


def history(registry: Registry) -> list[Move]:
    """Every change of champion, oldest first."""
    kept = sorted((key, text) for key, text in registry.tags().items() if key.startswith("history."))
    return [Move(**json.loads(text)) for _, text in kept]


def _utc() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _named(number: str) -> str:
    return f"version {number}" if number else "no version"
