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
_active: list[dict[str, float]] = []  # what stands beside each display, the innermost last


def progress(items: Iterable[T], total: int, what: str, start: int | None = None) -> Iterator[T]:
    """Yield the items under a display named `what`. Work that resumes gives `start`, how many of `total` are done."""
    if start is not None:
        begins = f"resumed at {start} of {total}" if start else f"fresh, {total} to do"
        log.info("%s: %s", what, begins)
    numbers: dict[str, float] = {}
    columns, rows = shutil.get_terminal_size()  # 80 x 24 for a terminal of size 0, as containers have
    shape: dict[str, Any] = {"ncols": columns, "nrows": rows, "file": sys.stderr, "disable": not sys.stderr.isatty()}
    bar = tqdm(desc=what, total=total, initial=start or 0, **shape)
    began_s = logged_s = time.monotonic()  # the wall clock may jump
    _active.append(numbers)
    try:
        for count, item in enumerate(items, 1):
            yield item
            done, now_s = (start or 0) + count, time.monotonic()
            beside = ", ".join(SHOWN[name].format(value) for name, value in numbers.items())
            bar.set_postfix_str(beside, refresh=False)
            bar.update()
            is_last = done == total and now_s - began_s > QUICK_S
            if bar.disable and (is_last or now_s - logged_s >= SILENT_S):
                logged_s = now_s
                rate_per_s = count / max(now_s - began_s, 1e-9)
                # flows/reproduce.py reads the first half of this line
                line = f"progress {what} {done}/{total} ({100 * done / max(total, 1):.0f} %)"
                eta = f"{rate_per_s:.2f}/s eta {(total - done) / rate_per_s:.0f} s"
                log.info("%s", ", ".join(filter(None, [f"{line} {eta}", beside])))
    finally:
        _active[:] = [other for other in _active if other is not numbers]
        bar.close()


def note(numbers: Mapping[str, float | int]) -> None:
    """Show the loss and the share of time waited for data beside the innermost display."""
    if _active:
        named = {name.rpartition("/")[2]: float(value) for name, value in numbers.items()}
        _active[-1].update({name: named[name] for name in SHOWN if name in named and math.isfinite(named[name])})
