"""Impromptu-VLA's answers: their grammar, and what its evaluator makes of them, malformed ones included.

Rules of pipeline_planning.py and of the NeuroNCAP server in Impromptu-VLA (7dc90bda), as observed on their outputs
(research/planning.md 2.3). A taught answer is `<PLANNING>... [x, y]: [x1, y1], ... [x6, y6]</PLANNING>`, six points
0.5 s apart, metres.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.scenes.base import FUTURE_STEPS

OPEN, CLOSE = "<PLANNING>", "</PLANNING>"
LEGENDS = ("displacement, theta", "dx, dy", "distance, curvature", "distance, polar angle", "x, y")
_BRACKETED = re.compile(r"\[([^\]]+)\]")
_PLAIN = r"([\d.-]+)"
_PLAIN_PAIR = re.compile(rf"\[{_PLAIN},\s*{_PLAIN}\]")

Points = Float[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Answer:
    """What an answer says."""

    waypoints_m: Points  # x forward, y left; six, but of the NeuroNCAP server as many as it found; zeros: not parsed
    parsed: bool  # six points of finite numbers came out; the official evaluator calls nothing unparsed
    remark: str = ""  # in which way the answer is none as taught, though it may parse


def parse_answer(text: str, mode: str = "x-y") -> Answer:
    """The waypoints of an answer as the official evaluator reads them, in one of the released formats `mode`.

    Between the tags (without them from the tenth character to the last but one), every bracket but a legend: the first
    two numbers of the first six. Fewer points: the last one again. Whatever the evaluator fails on: zeros (parked).
    NaN and infinity go through as they are there; here such an answer does not count as parsed.
    """
    if mode == "neuroncap_server":
        return _of_server(text)
    inside = text[text.find(OPEN) + len(OPEN) : text.find(CLOSE)]
    points = _points(inside)
    if points is None:
        return Answer(np.zeros((FUTURE_STEPS, 2)), False, "no points")
    path_m = MODES[mode](points[:FUTURE_STEPS, :2])
    path_m = np.concatenate([path_m, np.repeat(path_m[-1:], max(0, FUTURE_STEPS - len(path_m)), axis=0)])
    finite = bool(np.isfinite(path_m).all())
    return Answer(path_m, finite, _remark(text, len(points), finite))


def _points(text: str) -> Float[np.ndarray, "n m"] | None:
    """The bracketed rows of numbers; None unless there is one, and all are equally long and at least pairs."""
    found = _BRACKETED.findall(text)
    for legend in LEGENDS:
        if legend in found:
            found.remove(legend)
    try:
        rows = [[float(number) for number in row.split(",")] for row in found]
    except ValueError:
        return None
    lengths = {len(row) for row in rows}
    return np.array(rows, np.float64) if len(lengths) == 1 and min(lengths) >= 2 else None


def _remark(text: str, points: int, finite: bool) -> str:
    if not finite:
        return "not finite"
    if OPEN not in text or CLOSE not in text:
        return "no tags"
    if points != FUTURE_STEPS:
        return "fewer points" if points < FUTURE_STEPS else "more points"
    return ""


def _of_server(text: str) -> Answer:
    """The first six pairs of digits, points and signs anywhere: no exponents, no space but behind the comma.

    Nothing is repeated; zeros where there is no pair, or one that is no numbers.
    """
    found = _PLAIN_PAIR.findall(text)
    try:
        path_m = np.array([[float(number) for number in pair] for pair in found[:FUTURE_STEPS]]).reshape(-1, 2)
    except ValueError:
        path_m = np.zeros((0, 2))
    if not len(path_m):
        return Answer(np.zeros((FUTURE_STEPS, 2)), False, "no points")
    return Answer(path_m, len(path_m) == FUTURE_STEPS, _remark(text, len(found), True))


def _polar(distance_m: Float[np.ndarray, " n"], heading_deg: Float[np.ndarray, " n"]) -> Points:
    """Where a distance in a direction leads, 0 straight on, positive to the left."""
    heading_rad = np.radians(heading_deg)
    return np.stack([distance_m * np.cos(heading_rad), distance_m * np.sin(heading_rad)], axis=1)


def _along_curves(points: Points) -> Points:
    """Of the format dist-curvature: 100 / m, integrated with half of each distance as the published code has it."""
    half_m = 0.5 * points[:, 0]
    return _polar(half_m, np.degrees((points[:, 1] / 100 * half_m).cumsum())).cumsum(axis=0)


MODES: dict[str, Callable[[Points], Points]] = {
    "x-y": lambda points: points,
    "dx-dy": lambda points: np.stack([points[:, 1], -points[:, 0]], axis=1).cumsum(axis=0),  # x right, y forward
    "polar": lambda points: _polar(points[:, 0], points[:, 1]),
    "dist-theta": lambda points: _polar(points[:, 0], points[:, 1]).cumsum(axis=0),
    "dist-dtheta": lambda points: _polar(points[:, 0], points[:, 1].cumsum()).cumsum(axis=0),
    "dist-curvature": _along_curves,
}
