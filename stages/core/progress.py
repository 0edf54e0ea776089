"""Progress for everything that takes more than a few seconds: bars on a terminal, a line every 30 s elsewhere, and
lines of JSON in `runs/progress/<stage>.jsonl` for programs.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stages.core.lines import append_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)
T = TypeVar("T")

SILENT_S = float(os.environ.get("FASTDRIVE_PROGRESS_S", "30"))  # longest silence off a terminal
QUICK_S = 5.0  # what is over sooner says nothing
FOLDER = Path("runs/progress")
STAGE, WHY = "FASTDRIVE_STAGE", "FASTDRIVE_WHY"  # set by stages/core/journal/telling.py; worker processes see them, too
SHOWN = ("loss", "data_wait_share")  # of what a run records
_active: list["Count"] = []
_resumed: list[str] = []


def progress(items: Iterable[T], total: int, what: str, start: int | None = None) -> Iterator[T]:
    """The items, with a display named `what`. Work that a killed run goes on with gives `start`: so many of `total` are
    done already; the first line then says whether it is resumed or fresh, and why.
    """
    if start is not None:
        log.info("%s: %s", what, opening(start, total, os.environ.get(WHY, "")))
        _resumed.extend([what] if start else [])
    count = Count(what, total, start or 0)
    _active.append(count)
    try:
        for item in items:
            yield item
            count.step()
    finally:
        _active.remove(count)
        count.close()


def note(numbers: Mapping[str, float | int]) -> None:
    """Numbers that a run records: loss and share of the time waited for data are shown beside what is being counted."""
    found = {name.rpartition("/")[2]: float(value) for name, value in numbers.items()}
    if _active:
        _active[-1].numbers |= {name: found[name] for name in SHOWN if name in found and math.isfinite(found[name])}


def resumed() -> bool:
    """Whether any work of this process was begun by an earlier one."""
    return bool(_resumed)


def opening(start: int, total: int, why: str) -> str:
    """Resumed or fresh, and the reason."""
    if start:
        return f"resumed at {start} of {total} (done before under the same params, inputs and code)"
    return f"fresh, {total} to do ({why or 'nothing is kept of an earlier run'})"


class Count:
    """How far one loop is. Time is that of the monotonic clock: the wall clock may jump."""

    def __init__(self, what: str, total: int, start: int) -> None:
        self.what, self.total, self.start, self.done = what, total, start, start
        self.numbers: dict[str, float] = {}
        self._began_s = self._told_s = time.monotonic()
        self._bar = Bar(what, total, start) if sys.stderr.isatty() else None

    def step(self) -> None:
        """One more is done; told when it is time to."""
        self.done += 1
        now_s = time.monotonic()
        if self._bar:
            self._bar.show(self.done, told(self.numbers))
        if now_s - self._told_s < SILENT_S and (self.done != self.total or now_s - self._began_s <= QUICK_S):
            return
        self._told_s = now_s
        state = self.state(now_s - self._began_s)
        _append(state)
        if not self._bar:
            log.info("%s", line(state))

    def state(self, took_s: float) -> dict[str, Any]:
        """Where it stands after `took_s` of this run."""
        rate_per_s = (self.done - self.start) / max(took_s, 1e-9)
        eta_s = (self.total - self.done) / rate_per_s
        counted = {"what": self.what, "step": self.done, "total": self.total}
        return counted | {"rate_per_s": round(rate_per_s, 4), "eta_s": round(eta_s, 1)} | self.numbers | memory()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.close()


def line(state: Mapping[str, Any]) -> str:
    """A state in words; flows/reproduce.py reads its first half."""
    step, total = state["step"], state["total"]
    words = f"progress {state['what']} {step}/{total} ({100 * step / max(total, 1):.0f} %)"
    words += f" {state['rate_per_s']:.2f}/s eta {state['eta_s']:.0f} s"
    return ", ".join([words, *filter(None, [told(state)])])


def told(numbers: Mapping[str, Any]) -> str:
    """Loss, wait for data and memory in words, those that are there."""
    words = {
        "loss": "loss {:.4f}",
        "data_wait_share": "data wait {:.0%}",
        "memory_mb": "{:.0f} MB",
        "gpu_memory_mb": "{:.0f} MB of GPU",
    }
    return ", ".join(form.format(numbers[name]) for name, form in words.items() if name in numbers)


def memory() -> dict[str, int]:
    """MB that this process holds now, and the most it ever held of a GPU, where it uses one."""
    found = dict[str, int]()
    statm = Path("/proc/self/statm")
    if statm.is_file():
        found["memory_mb"] = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 10**6
    torch: Any = sys.modules.get("torch")  # never imported for this
    if torch is not None and torch.cuda.is_initialized():
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated() // 10**6
    return found


def _append(state: Mapping[str, Any]) -> None:
    """To the file of the stage, if this is one; of several ranks the first."""
    name = os.environ.get(STAGE)
    if not name or os.environ.get("RANK", "0") != "0":
        return
    stage, _, cell = name.partition("@")
    who = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "stage": stage, "cell": cell or None}
    append_line(FOLDER / f"{stage}.jsonl", who | dict(state))


class Bar:
    """One bar of the display that all loops of the process share; it is there while one of them runs."""

    _display: "Progress | None" = None
    _shown = 0

    def __init__(self, what: str, total: int, start: int) -> None:
        if Bar._display is None:
            Bar._display = _display()
            Bar._display.start()
        Bar._shown += 1
        self._task: TaskID = Bar._display.add_task(what, total=total, completed=start, told="")

    def show(self, done: int, words: str) -> None:
        """Move it."""
        assert Bar._display is not None
        Bar._display.update(self._task, completed=done, told=words)

    def close(self) -> None:
        """Take an inner one away; the last one stays where it is and ends the display."""
        assert Bar._display is not None
        Bar._shown -= 1
        if Bar._shown:
            Bar._display.remove_task(self._task)
        else:
            Bar._display.stop()
            Bar._display = None


def _display() -> "Progress":
    from rich import progress as rich  # half a tenth of a second, on a terminal alone
    from rich.console import Console

    columns = [rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn()]
    columns += [rich.TimeElapsedColumn(), rich.TimeRemainingColumn(), rich.TextColumn("{task.fields[told]}")]
    return rich.Progress(*columns, console=Console(stderr=True))


class Stderr(logging.StreamHandler[Any]):
    """Log lines to whatever sys.stderr is when they come: above the bars, while there are any."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Where this line goes."""
        return sys.stderr
