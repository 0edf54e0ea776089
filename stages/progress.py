"""Progress for everything that takes more than a few seconds: a bar on a terminal, a line now and then elsewhere."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

SILENT_S = float(os.environ.get("FASTDRIVE_PROGRESS_S", "60"))  # longest silence off a terminal


def progress(items: Iterable[T], total: int, what: str, start: int = 0) -> Iterator[T]:
    """The items, with a progress display named `what`; `start` of `total` are already done (a resumed run)."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, initial=start, desc=what, dynamic_ncols=True)
        return
    began = last = time.monotonic()
    done = start
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= SILENT_S or (done == total and now - began > 5):
            rate = (done - start) / max(now - began, 1e-9)
            log.info(
                "progress %s %d/%d (%.0f %%) %.2f/s eta %.0f s",
                what,
                done,
                total,
                100 * done / total,
                rate,
                (total - done) / rate,
            )
            last = now
