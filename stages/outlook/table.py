"""The rows for a person, for a program and for Prefect. A guess wears a `~`."""

import sys
from collections.abc import Sequence
from typing import Any

from stages.outlook.fitting import size
from stages.outlook.machine import Machine
from stages.outlook.row import Row

COLUMNS = ("stage", "state", "time", "GPU-hours", "memory", "disk", "basis", "why")
GUESS = "~"  # before a number that is a guess
UNKNOWN = "?"


def cells(row: Row) -> dict[str, str]:
    """A row in words; of a fresh stage its name alone."""
    if not row.stale:
        return dict.fromkeys(COLUMNS, "") | {"stage": row.stage, "state": "fresh"}
    guess = row.time is not None and row.time.guess
    return {
        "stage": row.stage,
        "state": "stale",
        "time": marked(duration(row.time.seconds) if row.time else UNKNOWN, guess),
        "GPU-hours": marked(f"{row.gpu_hours:.3g}", guess) if row.gpu_hours else "",
        "memory": marked(size(row.memory_bytes), row.memory_guess) if row.memory_bytes else UNKNOWN,
        "disk": marked(size(row.disk_bytes), row.disk_guess) if row.disk_bytes is not None else UNKNOWN,
        "why": row.why,
        "basis": ("guess: " if guess else "") + (row.time.basis if row.time else "nothing to go by"),
    }


def total(rows: Sequence[Row], here: Machine) -> str:
    """All stale stages in one line: they run one after another."""
    stale = [row for row in rows if row.stale]
    if not stale:
        return f"{len(rows)} stages, all fresh"
    timed = [row for row in stale if row.time]
    guess = any(row.time.guess for row in timed if row.time)
    seconds, hours = sum(row.time.seconds for row in timed if row.time), sum(row.gpu_hours for row in stale)
    unknown = f" and {len(stale) - len(timed)} of unknown time" if len(timed) < len(stale) else ""
    where = "" if here.gpus else " (as on the paper's two H800)"
    gpu = f", {marked(f'{hours:.3g}', guess)} GPU-hours{where}" if hours else ""
    most = max(row.memory_bytes or 0 for row in stale)
    room = marked(size(sum(row.disk_bytes or 0 for row in stale)), any(row.disk_guess for row in stale))
    has = f"{here.gpus} x {size(here.gpu_memory_bytes)} of GPU" if here.gpus else "no GPU"
    return (
        f"{len(stale)} of {len(rows)} stages are stale: {marked(duration(seconds), guess)}{unknown}{gpu}; "
        f"memory {marked(size(most), any(row.memory_guess for row in stale))} of {size(here.memory_bytes)}, {has}; "
        f"disk {room} of {size(here.disk_free_bytes)} free"
    )


def as_json(rows: Sequence[Row], here: Machine, refusal: str) -> dict[str, Any]:
    """For programs: numbers in s, bytes and hours, guesses marked, and the words of the table."""
    return {
        "fits": not refusal,
        "refusal": refusal,
        "total": total(rows, here),
        "disk_free_bytes": here.disk_free_bytes,
        "memory_bytes": here.gpu_memory_bytes if here.gpus else here.memory_bytes,
        "rows": [_numbers(row) | {"words": cells(row)} for row in rows],
    }


def _numbers(row: Row) -> dict[str, Any]:
    return {
        "stage": row.stage,
        "stale": row.stale,
        "why": row.why,
        "work": row.work,
        "seconds": row.time.seconds if row.time else None,
        "seconds_guess": row.time.guess if row.time else None,
        "basis": row.time.basis if row.time else None,
        "gpu_hours": row.gpu_hours if row.time else None,
        "memory_bytes": row.memory_bytes,
        "memory_guess": row.memory_guess,
        "disk_bytes": row.disk_bytes,
        "disk_guess": row.disk_guess,
    }


def show(rows: Sequence[Row], here: Machine) -> None:
    """To stdout: a table on a terminal, aligned lines elsewhere."""
    lines = [cells(row) for row in rows]
    if sys.stdout.isatty():
        _rich(lines)
    else:
        _plain(lines)
    guesses = f"{GUESS} a guess. " if any(GUESS in text for line in lines for text in line.values()) else ""
    print(f"{guesses}{total(rows, here)}")


def _rich(lines: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for line in lines:
        table.add_row(*(line[name] for name in COLUMNS), style="" if line["state"] == "stale" else "dim")
    Console().print(table)


def _plain(lines: Sequence[dict[str, str]]) -> None:
    named = [dict(zip(COLUMNS, COLUMNS, strict=True)), *lines]
    widths = {name: max(len(line[name]) for line in named) for name in COLUMNS}
    for line in named:
        print("  ".join(line[name].ljust(widths[name]) for name in COLUMNS).rstrip())


def duration(seconds: int | float) -> str:
    """In the unit that fits."""
    if seconds >= 3600:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:.0f} s"


def marked(text: str, guess: bool) -> str:
    """With the mark of a guess, where it is one."""
    return f"{GUESS}{text}" if guess and text != UNKNOWN else text
