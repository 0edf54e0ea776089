"""Progress of everything that takes more than a few seconds: a bar on a terminal, a line every 30 s elsewhere."""

import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
T = TypeVar("T")

SILENT_S = float(os.environ.get("FASTDRIVE_PROGRESS_S", "30"))  # longest silence off a terminal
QUICK_S = 5.0  # shorter work logs nothing
SHOWN = {"loss": "loss {:.4f}", "data_wait_share": "data wait {:.0%}"}  # of what a run records
_active: list["_Loop"] = []


def progress(items: Iterable[T], total: int, what: str, start: int | None = None) -> Iterator[T]:
    """Yield the items under a display named `what`.

    Work that can go on after a kill gives `start`, the number of `total` that are done already; a first line then says
    whether it is resumed or fresh.
    """
    if start is not None:
        begins = f"resumed at {start} of {total}" if start else f"fresh, {total} to do"
        log.info("%s: %s", what, begins)
    loop = _Loop(what, total, start or 0)
    _active.append(loop)
    try:
        for item in items:
            yield item
            loop.step()
    finally:
        _active.remove(loop)
        loop.bar.close()


def note(numbers: Mapping[str, float | int]) -> None:
    """Show the loss and the share of time waited for data beside the innermost display."""
    if _active:
        named = {name.rpartition("/")[2]: float(value) for name, value in numbers.items()}
        shown = {name: named[name] for name in SHOWN if name in named and math.isfinite(named[name])}
        _active[-1].numbers.update(shown)


class _Loop:
    """One loop with its bar. Time is that of the monotonic clock: the wall clock may jump."""

    def __init__(self, what: str, total: int, start: int) -> None:
        self.what, self.total, self.start, self.done = what, total, start, start
        self.numbers: dict[str, float] = {}
        self._began_s = self._logged_s = time.monotonic()
        columns, rows = shutil.get_terminal_size()  # 80 x 24 for a terminal of size 0, as containers have
        shape = {"ncols": columns, "nrows": rows, "file": sys.stderr, "disable": not sys.stderr.isatty()}
        self.bar: Any = tqdm(desc=what, total=total, initial=start, **shape)

    def step(self) -> None:
        """Count one more; move the bar, or log a line when it is time to."""
        self.done += 1
        now_s = time.monotonic()
        numbers = ", ".join(SHOWN[name].format(value) for name, value in self.numbers.items())
        if not self.bar.disable:
            self.bar.set_postfix_str(numbers, refresh=False)
            self.bar.update()
            return
        if now_s - self._logged_s < SILENT_S and (self.done != self.total or now_s - self._began_s <= QUICK_S):
            return
        self._logged_s = now_s
        rate_per_s = (self.done - self.start) / max(now_s - self._began_s, 1e-9)
        # flows/reproduce.py reads the first half of this line
        line = f"progress {self.what} {self.done}/{self.total} ({100 * self.done / max(self.total, 1):.0f} %)"
        eta = f"{rate_per_s:.2f}/s eta {(self.total - self.done) / rate_per_s:.0f} s"
        log.info("%s", ", ".join(filter(None, [f"{line} {eta}", numbers])))


class Stderr(logging.Handler):
    """Log lines to sys.stderr, above the bars while there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # a terminal that is gone stops no work
            self.handleError(record)
