"""Camera images with something drawn over them, and the road from above. Arrays and records in, picture bytes out."""

import io
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from PIL import Image

from stages.planning.omnidrive import BOX_LW_M, CENTER_AHEAD_M
from stages.report.figures import BLACK, COLOURS, GREY, MARKERS, look_of
from stages.scenes.base import Boxes, Frame, inverse, move, rotations

RGB = UInt8[np.ndarray, "H W 3"]

RECORDED, UNPRUNED = "recorded", "none"
TINT = (0, 114, 178)  # of foreground


def encoded(image: RGB, kind: str = "jpeg") -> bytes:
    """Return a JPEG file of an RGB image, or a small WebP for pictures of which a page has hundreds."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind.upper(), quality=85 if kind == "jpeg" else 60)
    return buffer.getvalue()


def shrunk(image: RGB, width_px: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Return the image at most `width_px` wide."""
    H, W, _ = image.shape
    if width_px >= W:
        return image
    size = (width_px, max(1, H * width_px // W))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def kept_tokens(image: RGB, kept: Int[np.ndarray, " K"], grid: tuple[int, int]) -> RGB:
    """Return the image with dropped tokens dark, kept ones outlined.

    `kept` are reading-order indices of `grid` (h, w).
    """
    shown = np.zeros(grid[0] * grid[1], bool)
    shown[kept] = True
    H, W, _ = image.shape
    rows, columns = np.arange(H) * grid[0] // H, np.arange(W) * grid[1] // W
    pixels = shown.reshape(grid)[rows][:, columns]
    dark = (0.3 * image.mean(axis=2, keepdims=True)).astype(np.uint8)
    return _outlined(np.where(pixels[:, :, None], image, dark), pixels)


def tinted(image: RGB, foreground: Bool[np.ndarray, "H W"]) -> RGB:
    """Return the image with its foreground (True) tinted and outlined."""
    mixed = (0.55 * image + 0.45 * np.array(TINT)).astype(np.uint8)
    return _outlined(np.where(foreground[:, :, None], mixed, image), foreground)


def _outlined(picture: RGB, inside: Bool[np.ndarray, "H W"]) -> RGB:
    """White on the border pixels of `inside`, so that it shows on dark and bright images alike."""
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(picture), outlines, -1, (255, 255, 255), 1))


def plan_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each path: recorded black, the unpruned driver grey, one of COLOURS for each method."""
    methods = [name for name in names if name not in (RECORDED, UNPRUNED)]
    return {RECORDED: BLACK, UNPRUNED: GREY} | {name: look["color"] for name, look in look_of(methods).items()}


# The road from above as a small SVG: a gallery of hundreds fits on a page. Ahead is up; one unit is 0.1 m.

AHEAD_M, BEHIND_M, RASTER_M = 28.0, 5.0, 50.0  # shown at least; the raster of the drivable area ends at 50 m
WIDTH_TO_HEIGHT = 0.75
ROAD, EDGE, BOX = "#e2e2e2", "#b4b4b4", "#8d99a6"
PLAN = COLOURS[1]  # of a single plan


def road_from_above(
    frame: Frame,
    plans_m: Mapping[str, Float[np.ndarray, "6 2"]] | Float[np.ndarray, "6 2"],
    drivable: Bool[np.ndarray, "1000 1000"] | None,
) -> bytes:
    """Return drivable area, boxes, the car, the recorded path (black) and the plans, several by name with a legend.

    `drivable`: row = y left, column = x forward, 0.1 m, the ego in the middle. The view grows up to 50 m.
    """
    several = isinstance(plans_m, Mapping)
    plans: Mapping[str, np.ndarray] = plans_m if isinstance(plans_m, Mapping) else {"plan": plans_m}
    paths = {RECORDED: frame.future_ego_m, **plans}
    colours = plan_colours(paths) if several else {RECORDED: BLACK, "plan": PLAN}
    ahead_m, aside_m = np.minimum(1.1 * np.abs(np.nan_to_num(np.vstack(list(paths.values())))).max(axis=0), RASTER_M)
    height_m = max(AHEAD_M + BEHIND_M, ahead_m + BEHIND_M, 2 * aside_m / WIDTH_TO_HEIGHT)
    width_m = WIDTH_TO_HEIGHT * height_m
    left, top, width, height = (round(10 * value) for value in (-width_m / 2, BEHIND_M - height_m, width_m, height_m))
    parts = [f"<rect x='{left}' y='{top}' width='{width}' height='{height}' fill='#fff'/>"]
    if drivable is not None:
        parts.append(f"<path d='{_outlines(drivable)}' fill='{ROAD}' stroke='{EDGE}' fill-rule='evenodd'/>")
    boxes = "".join(_closed(_on_page(corners)) for corners in corners_m(frame.boxes, inverse(frame.global_from_ego)))
    parts += [f"<path d='{boxes}' fill='{BOX}' stroke='#5b6570'/>"] if boxes else []
    length_m, ego_width_m = BOX_LW_M
    ego_m = np.array(_SQUARE) * np.array([length_m, ego_width_m]) / 2 + np.array([CENTER_AHEAD_M, 0])
    parts.append(f"<path d='{_closed(_on_page(ego_m))}' fill='#fff' stroke='#000' stroke-width='2'/>")
    wide = height / 90  # strokes as thick on far views
    for i, (name, path_m) in enumerate(paths.items()):
        points = _on_page(path_m).tolist()
        stroke = f"stroke='{colours[name]}' stroke-width='{1.6 * wide if name == RECORDED else wide:.1f}'"
        line = "M0 0L" + " ".join(f"{x} {y}" for x, y in points)
        dots = "".join(f"<circle cx='{x}' cy='{y}' r='{1.3 * wide:.1f}'/>" for x, y in points)
        parts.append(f"<path d='{line}' {stroke} fill='none' stroke-linejoin='round' stroke-linecap='round'/>")
        parts.append(f"<g fill='{colours[name]}'>{dots}</g>")
        if several:
            x, y = left + 2 * wide, top + (4 + 4 * i) * wide
            text = f"font-size='{3.2 * wide:.1f}' font-family='sans-serif' fill='{colours[name]}'"
            parts.append(f"<text x='{x:.1f}' y='{y:.1f}' {text}>{name}</text>")
    view = f"viewBox='{left} {top} {width} {height}' width='{width}' height='{height}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {view}>{''.join(parts)}</svg>".encode()


_SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def corners_m(boxes: Boxes, ego_from_global: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "M 4 2"]:
    """Return footprints of the boxes in the ego frame."""
    half_lw_m = boxes.sizes_wlh_m[:, None, [1, 0]] / 2 * np.array(_SQUARE)
    local_m = np.concatenate([half_lw_m, np.zeros((len(boxes), 4, 1))], axis=2)
    turned_m = np.einsum("mij,mkj->mki", rotations(boxes.rotations_wxyz), local_m)
    return move(ego_from_global, turned_m + boxes.centers_m[:, None])[..., :2]


def _outlines(drivable: Bool[np.ndarray, "1000 1000"]) -> str:
    """The borders of the drivable area, straightened by up to 0.2 m."""
    seen = np.ascontiguousarray(drivable[::-1, ::-1].T, np.uint8)  # row: from ahead to behind; column: left to right
    contours, _ = cv2.findContours(seen, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    straight = [cv2.approxPolyDP(contour, 2, closed=True)[:, 0] - 500 for contour in contours]
    return "".join(_closed(points) for points in straight if len(points) > 2)


def _closed(points: Int[np.ndarray, "P 2"]) -> str:
    return "M" + " ".join(f"{x} {y}" for x, y in points.tolist()) + "z"


def _on_page(points_m: Float[np.ndarray, "P 2"]) -> Int[np.ndarray, "P 2"]:
    """Ego coordinates to the page's: to the right, down, in 0.1 m; what is absurdly far stays a number."""
    return np.round(-10 * np.clip(np.nan_to_num(points_m[:, ::-1]), -1e4, 1e4)).astype(np.int64)


def draw_birds_eye(
    axes: Axes,
    frame: Frame,
    plans_m: Mapping[str, Float[np.ndarray, "6 2"]],
    drivable: Bool[np.ndarray, "1000 1000"] | None,
) -> None:
    """Draw the road from above on axes of a matplotlib figure."""
    if drivable is not None:
        road = np.where(drivable.T[:, ::-1], 0.9, 1.0)  # rows: x forward; columns: from left to right
        axes.imshow(road, cmap="gray", vmin=0, vmax=1, extent=(-50, 50, -50, 50), origin="lower")
    length_m, width_m = BOX_LW_M
    for corner_m in corners_m(frame.boxes, inverse(frame.global_from_ego)):
        axes.add_patch(Polygon(np.stack([-corner_m[:, 1], corner_m[:, 0]], axis=1), fc="#bdbdbd", ec="#6b6b6b", lw=0.8))
    methods = [name for name in plans_m if name not in (RECORDED, UNPRUNED)]
    ego = [(x * width_m / 2, CENTER_AHEAD_M + y * length_m / 2) for x, y in _SQUARE]
    axes.add_patch(Polygon(ego, fc="white", ec=BLACK, lw=1.2))
    markers = {RECORDED: "*", UNPRUNED: "X"} | {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(methods)}
    paths_m = {RECORDED: frame.future_ego_m, **plans_m}
    for name, path_m in paths_m.items():
        x, y = np.vstack([np.zeros((1, 2)), path_m]).T
        (line,) = axes.plot(-y, x, color=plan_colours(plans_m)[name], marker=markers[name], ms=5, label=name)
        line.set(lw=2.5 if name == RECORDED else 1.3, markevery=slice(1, None))
    farthest_m = np.abs(np.vstack(list(paths_m.values()))).max(axis=0)
    ahead_m, aside_m = np.clip(1.1 * farthest_m, [25.0, 12.0], RASTER_M)
    axes.set(xlim=(-aside_m, aside_m), ylim=(-BEHIND_M, ahead_m), aspect="equal")
    axes.set(xlabel="to the right (m)", ylabel="ahead (m)")
    axes.grid(visible=False)
