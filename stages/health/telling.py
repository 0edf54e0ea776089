"""Findings as a table on a terminal, as lines elsewhere, as JSON; secrets of the environment masked."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from stages.core.secrets import masked
from stages.health.finding import Finding, State

COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "cyan"}


def told(found: Sequence[Finding], done: Sequence[str]) -> str:
    """What a person reads: repairs, findings, and how many there are of each kind."""
    body = _table(found) if sys.stdout.isatty() else "\n".join(map(line, found))
    counts = Counter(finding.state for finding in found)
    last = ", ".join(f"{counts[state]} {state}" for state in COLOURS if counts[state])
    if any(finding.fixable for finding in found) and not done:
        last += "; `fastdrive doctor --fix` repairs what cannot lose anything"
    return "\n".join(masked([*(f"fixed    {line}" for line in done), body, last]))


def line(finding: Finding) -> str:
    """One finding on one line."""
    parts = [f"{finding.state:8} {finding.name:12} {finding.got}"]
    if finding.expected and finding.state != "ok":
        parts.append(f"wanted {finding.expected}")
    if finding.fix:
        parts.append(f"next: {finding.fix}")
    return "; ".join(" ".join(part.split()) if i else part for i, part in enumerate(parts))


def as_json(found: Sequence[Finding], done: Sequence[str], code: int) -> str:
    """All of it, for a program."""
    tree = {"findings": [asdict(finding) for finding in found], "fixed": list(done), "exit_code": code}
    return json.dumps(masked(tree), indent=1)


def _table(found: Sequence[Finding]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "check", "found", "next"):
        table.add_column(title, overflow="fold")
    for finding in found:
        wanted = f"\nwanted {finding.expected}" if finding.expected and finding.state != "ok" else ""
        state = Text(finding.state, COLOURS[finding.state])
        table.add_row(state, finding.name, Text(masked(finding.got + wanted)), Text(masked(finding.fix)))
    console = Console(width=shutil.get_terminal_size((100, 24)).columns, force_terminal=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
