"""Waypoints as text and back: `<PLANNING>[x1, y1], ... [x6, y6]</PLANNING>`, metres, x forward, y left."""

import math
import re

import numpy as np
from numpy.typing import NDArray

from stages.scenes.base import FUTURE_STEPS

OPEN, CLOSE = "<PLANNING>", "</PLANNING>"
_PAIR = re.compile(r"\[([^\[\]]*)\]")


def format_answer(waypoints_m: NDArray[np.float64], decimals: int) -> str:
    """The answer that a driver is taught to give; no negative zero."""
    pairs = (f"[{x:.{decimals}f}, {y:.{decimals}f}]" for x, y in np.round(waypoints_m, decimals) + 0.0)
    return OPEN + ", ".join(pairs) + CLOSE


def parse_answer(text: str) -> NDArray[np.float64] | None:
    """The (T, 2) waypoints, or None unless exactly T bracketed pairs of finite numbers stand between the tags."""
    start, end = text.find(OPEN), text.find(CLOSE)
    if start < 0 or end < start:
        return None
    pairs = [_numbers(match) for match in _PAIR.findall(text[start + len(OPEN) : end])]
    if len(pairs) != FUTURE_STEPS or any(pair is None or len(pair) != 2 for pair in pairs):
        return None
    return np.array(pairs, np.float64)


def _numbers(text: str) -> list[float] | None:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None
