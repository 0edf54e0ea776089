"""Python and its packages, against pyproject.toml and requirements.lock."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stages.health.finding import Finding, State
from stages.health.versions import installed, locked, project

INSTALL = "`make reproduce` makes .venv from requirements.lock; then `source .venv/bin/activate`"


def check(root: Path) -> Iterator[Finding]:
    """The interpreter, the `python` that dvc.yaml calls, the ranges of pyproject.toml, the lock."""
    said = project(root)
    python = ".".join(map(str, sys.version_info[:3]))
    wanted = said.get("requires-python", ">=3.11")
    state: State = "ok" if SpecifierSet(wanted).contains(python) else "bad"
    yield Finding("packages", state, f"Python {python}", f"Python {wanted}", "" if state == "ok" else INSTALL)
    yield from _called()
    yield from _ranges(said.get("dependencies", []))
    yield from _lock(locked(root))


def _called() -> Iterator[Finding]:
    called = shutil.which("python") or "none"
    if called == "none" or Path(called).parent.resolve() != Path(sys.executable).parent.resolve():
        then = "`source .venv/bin/activate`, or start by make"
        yield Finding("packages", "warn", f"`python` is {called}", f"{sys.executable}, as dvc.yaml calls it", then)


def _ranges(dependencies: list[str]) -> Iterator[Finding]:
    for line in dependencies:
        wanted = Requirement(line)
        came = installed(wanted.name)
        if not came or not wanted.specifier.contains(came, prereleases=True):
            yield Finding("packages", "bad", f"{wanted.name} {came or 'is not installed'}", line, INSTALL)


def _lock(pins: dict[str, str]) -> Iterator[Finding]:
    if not pins:
        yield Finding("packages", "unknown", "no requirements.lock here", fix="`git checkout requirements.lock`")
        return
    came = {name: installed(name) for name in pins}
    absent = [name for name in pins if not came[name]]
    others = [f"{name} {came[name]}" for name in pins if came[name] and came[name] != pins[name]]
    if not absent and not others:
        yield Finding("packages", "ok", f"{len(pins)} packages as locked")
    if others:
        shown = ", ".join(others[:6]) + ", ..." * (len(others) > 6)
        yield Finding(
            "packages", "warn", f"{len(others)} other versions: {shown}", "those of requirements.lock", INSTALL
        )
    if absent:
        shown = ", ".join(absent[:6]) + ", ..." * (len(absent) > 6)
        yield Finding("packages", "warn", f"{len(absent)} not installed: {shown}", "all of requirements.lock", INSTALL)
