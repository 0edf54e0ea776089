"""Judging a version, promoting or declining it, rolling the champion back.

Aliases move under one file lock, decisions are tags of the version; a call that was killed half-way can be repeated.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stages.core.errors import GateError, ParamsError
from stages.core.params import Params, parse_params
from stages.core.provenance import git_says
from stages.planning.tables import to_markdown
from stages.registry import gate
from stages.registry.gate import ROLLED_BACK, Verdict
from stages.registry.versions import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version

log = logging.getLogger(__name__)
HEADING = "\n\n## Gate\n\n"
PASSED = "gate.passed"
AUTO = "auto"  # the approver where params allow promotion without a person
PROMOTE = "python -m flows.promote"


def judge(registry: Registry, key: str, params: Params) -> tuple[Version, Verdict]:
    """Check a version against the champion and the limits of its own commit; the verdict is stored with the version."""
    version, champion = registry.version(key), registry.aliases().get(CHAMPION, "")
    reference = registry.evidence(registry.version(champion)) if champion not in ("", version.number) else None
    rules, commit = rules_of(version, params)
    verdict = gate.judge(registry.evidence(version), reference, rules)
    limits = gate.Check("limits", "params.yaml of the commit that made the version", commit or "the checkout's", True)
    verdict = replace(verdict, checks=(limits, *verdict.checks))
    failed = json.dumps([check.rule for check in verdict.refused])
    tags = {"champion": verdict.champion or "none", "at": _utc(), "failed": failed}
    text = version.description.split(HEADING)[0] + HEADING + to_markdown(verdict.rows())
    with registry.lock():
        registry.describe(version.number, text)
        registry.tag(version.number, {PASSED: None} | {f"gate.{key}": value for key, value in tags.items()})
        registry.tag(version.number, {PASSED: str(verdict.passed).lower()})  # last: without it there is no verdict
    return version, verdict


def check_passed(registry: Registry, version: Version, verdict: Verdict) -> None:
    """Raises GateError naming the first rule that failed."""
    if not verdict.passed:
        first, *others = verdict.refused
        more = f" (and {len(others)} more)" if others else ""
        raise GateError(
            expected=f"every rule kept by version {version.number} of {registry.name}",
            got=f"{first.rule}: {first.got}, expected {first.expected}{more}",
            fix="correct what the table names and register again; or change registry.* in params.yaml",
        )


def rules_of(version: Version, params: Params) -> tuple[Params, str]:
    """Return params.yaml of the commit that made a version, and the commit; `params` where git does not have it."""
    commit = version.tags.get("git.commit", "")
    text = git_says(Path.cwd(), "show", f"{commit}:./params.yaml") if commit else ""
    return (parse_params(text, Path(f"params.yaml of {commit[:12]}")), commit[:12]) if text else (params, "")


def promote(registry: Registry, number: str, params: Params, by: str, reason: str, flow_run: str = "") -> bool:
    """Make version `number` champion; False if it is already.

    Raises ParamsError for nobody as approver where params want a person; GateError without a passed verdict under the
    current rules (a rollback takes it away), or when another version became champion since the verdict.
    """
    if by == AUTO and not params.registry.auto:
        raise ParamsError(
            expected="registry.auto: true in params.yaml for a promotion without a person",
            got="false",
            fix=f'approve it: `{PROMOTE} --approve "reason"`',
        )
    with registry.lock():
        version, aliases = registry.version(number), registry.aliases()
        champion = aliases.get(CHAMPION, "")
        if champion != number:
            _check_verdict(registry, version, champion)
            registry.tag(number, _tags("promotion", by, reason, flow_run) | {"promotion.previous": champion or "none"})
            registry.point(PREVIOUS, champion)
            registry.point(CHAMPION, number)
        if aliases.get(CANDIDATE) == number:
            registry.point(CANDIDATE, "")
    log.info("version %s of %s is champion, %s before", number, registry.name, champion or "none")
    return champion != number


def _check_verdict(registry: Registry, version: Version, champion: str) -> None:
    tags, again = version.tags, f"judge it again: `{PROMOTE} --version {version.number}`"
    if tags.get(PASSED) != "true":
        got = f"refused: {tags.get('gate.failed')}" if tags.get(PASSED) == "false" else "no verdict"
        raise GateError(expected=f"a passed verdict on version {version.number} of {registry.name}", got=got, fix=again)
    if tags["gate.champion"] != (champion or "none"):
        expected = f"version {tags['gate.champion']} as champion, as when version {version.number} was judged"
        raise GateError(expected=expected, got=champion or "none", fix=again)


def decline(registry: Registry, number: str, by: str, reason: str, flow_run: str = "") -> None:
    """Record that a person did not approve; nothing moves."""
    registry.tag(number, _tags("declined", by, reason, flow_run))


def rollback(registry: Registry, by: str, reason: str, champion: str = "", flow_run: str = "") -> str:
    """Make `previous` champion again and return its number; `previous` is then the version before that one.

    `champion`, where given, is the version that must go: a repeated call changes nothing. Raises GateError when there
    is nothing to go back to, or another champion.
    """
    with registry.lock():
        aliases = registry.aliases()
        current = aliases.get(CHAMPION, "")
        if champion not in ("", current):
            raise GateError(
                expected=f"version {champion} as champion of {registry.name}",
                got=f"{current or 'none'}: it was rolled back already, or another was promoted",
                fix="look at the versions in MLflow, then name the champion of now",
            )
        earlier = _before(registry, aliases.get(PREVIOUS, ""), {current})
        target = next(earlier, "")
        if not target:
            raise GateError(
                expected=f"a previous version of {registry.name} to go back to",
                got=f"champion = {current or 'none'}, no previous",
                fix=f"promote another: `{PROMOTE}`",
            )
        registry.tag(current, _tags("rollback", by, reason, flow_run) | {"rollback.to": target, PASSED: None})
        registry.point(CHAMPION, target)
        registry.point(PREVIOUS, next(earlier, ""))
    log.info("version %s of %s is champion again in the place of %s", target, registry.name, current)
    return target


def _before(registry: Registry, number: str, seen: set[str]) -> Iterator[str]:
    """`number` and the champions before it by their promotion tags, without those that were rolled back."""
    while number not in {"", "none", *seen}:
        seen.add(number)
        tags = registry.version(number).tags
        if ROLLED_BACK not in tags:
            yield number
        number = tags.get("promotion.previous", "")


def _tags(kind: str, by: str, reason: str, flow_run: str) -> dict[str, str | None]:
    values = {"by": by, "reason": reason, "at": _utc(), "flow_run": flow_run}
    return {f"{kind}.{key}": value for key, value in values.items() if value}


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
