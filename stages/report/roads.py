"""The road from above as a small SVG: a gallery of hundreds fits on a page. Ahead is up; one unit is 0.1 m."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from stages.planning.omnidrive import BOX_LW_M, CENTER_AHEAD_M
from stages.report.pictures import corners_m
from stages.scenes.base import Frame, inverse

AHEAD_M, BEHIND_M, RASTER_M = 28.0, 5.0, 50.0  # shown at least; the raster of the drivable area ends at 50 m
WIDTH_TO_HEIGHT = 0.75
ROAD, EDGE, BOX, PLAN = "#e2e2e2", "#b4b4b4", "#8d99a6", "#D55E00"
STYLE = "fill='none' stroke-linejoin='round' stroke-linecap='round'"


def small_road(frame: Frame, plan_m: Float[np.ndarray, "6 2"], drivable: Bool[np.ndarray, "1000 1000"] | None) -> bytes:
    """Drivable area, boxes, the car, the recorded path (black), the planned one (orange); pictures of one shape.

    `drivable` as in `planning.base.Truth`. The view grows with the paths, up to 50 m.
    """
    finite = np.nan_to_num(np.vstack([frame.future_ego_m, plan_m]))
    ahead_m, aside_m = np.minimum(1.1 * np.abs(finite).max(axis=0), RASTER_M)
    height_m = max(AHEAD_M + BEHIND_M, ahead_m + BEHIND_M, 2 * aside_m / WIDTH_TO_HEIGHT)
    width_m = WIDTH_TO_HEIGHT * height_m
    left, top, width, height = (round(10 * value) for value in (-width_m / 2, BEHIND_M - height_m, width_m, height_m))
    parts = [f"<rect x='{left}' y='{top}' width='{width}' height='{height}' fill='#fff'/>"]
    if drivable is not None:
        parts.append(f"<path d='{_outlines(drivable)}' fill='{ROAD}' stroke='{EDGE}' fill-rule='evenodd'/>")
    boxes = "".join(_shape(corners) for corners in corners_m(frame.boxes, inverse(frame.global_from_ego)))
    parts += [f"<path d='{boxes}' fill='{BOX}' stroke='#5b6570'/>"] if boxes else []
    parts.append(f"<path d='{_shape(_ego_m())}' fill='#fff' stroke='#000' stroke-width='2'/>")
    wide = height / 90  # strokes as thick on far views
    parts += _path(frame.future_ego_m, "#000", 1.6 * wide, wide) + _path(plan_m, PLAN, wide, 1.3 * wide)
    view = f"viewBox='{left} {top} {width} {height}' width='{width}' height='{height}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {view}>{''.join(parts)}</svg>".encode()


def _outlines(drivable: Bool[np.ndarray, "1000 1000"]) -> str:
    """The borders of the drivable area, straightened by up to 0.2 m."""
    seen = np.ascontiguousarray(drivable[::-1, ::-1].T, np.uint8)  # row: from ahead to behind; column: left to right
    contours, _ = cv2.findContours(seen, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    straight = [cv2.approxPolyDP(contour, 2, closed=True)[:, 0] - 500 for contour in contours]
    return "".join(_closed(points) for points in straight if len(points) > 2)


def _shape(points_m: Float[np.ndarray, "P 2"]) -> str:
    return _closed(_on_page(points_m))


def _closed(points: Int[np.ndarray, "P 2"]) -> str:
    return "M" + " ".join(f"{x} {y}" for x, y in points.tolist()) + "z"


def _on_page(points_m: Float[np.ndarray, "P 2"]) -> Int[np.ndarray, "P 2"]:
    """Ego coordinates to the page's: to the right, down, in 0.1 m; what is absurdly far stays a number."""
    return np.round(-10 * np.clip(np.nan_to_num(points_m[:, ::-1]), -1e4, 1e4)).astype(np.int64)


def _ego_m() -> Float[np.ndarray, "4 2"]:
    length_m, width_m = BOX_LW_M
    turns = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])
    return turns * np.array([length_m, width_m]) / 2 + np.array([CENTER_AHEAD_M, 0])


def _path(points_m: Float[np.ndarray, "T 2"], colour: str, width: float, radius: float) -> list[str]:
    """A line from the car through the points, and a dot at each."""
    points = _on_page(points_m).tolist()
    line = "M0 0L" + " ".join(f"{x} {y}" for x, y in points)
    dots = "".join(f"<circle cx='{x}' cy='{y}' r='{1.3 * radius:.1f}'/>" for x, y in points)
    return [
        f"<path d='{line}' stroke='{colour}' stroke-width='{width:.1f}' {STYLE}/>",
        f"<g fill='{colour}'>{dots}</g>",
    ]
