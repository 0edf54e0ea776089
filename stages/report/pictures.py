"""Camera images with something drawn over them, and the road from above. Arrays and records in, picture bytes out."""

import io
from collections.abc import Mapping

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image

from stages.planning.omnidrive import BOX_LW_M, CENTER_AHEAD_M
from stages.report.figures import BLACK, GREY, STYLE, colour_of
from stages.scenes.base import Boxes, Frame, inverse, move, rotations

RECORDED = "recorded"
UNPRUNED = "none"
TINT = (0, 114, 178)  # of foreground
AHEAD_M, BEHIND_M, ASIDE_M = 25.0, 5.0, 12.0  # what the view from above shows at least


def jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A JPEG file of an RGB image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def webp(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A small WebP file of an RGB image, for pictures of which a page has hundreds."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", quality=60, method=4)
    return buffer.getvalue()


def shrunk(image: UInt8[np.ndarray, "H W 3"], width_px: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """The image at most `width_px` wide."""
    H, W, _ = image.shape
    if width_px >= W:
        return image
    size = (width_px, max(1, H * width_px // W))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def kept_tokens(
    image: UInt8[np.ndarray, "H W 3"], kept: Int[np.ndarray, " K"], grid: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with dropped tokens dark, kept ones outlined; `kept` are reading-order indices of `grid` (h, w)."""
    shown = np.zeros(grid[0] * grid[1], bool)
    shown[kept] = True
    H, W, _ = image.shape
    rows, columns = np.arange(H) * grid[0] // H, np.arange(W) * grid[1] // W
    pixels = shown.reshape(grid)[rows][:, columns]
    dark = (0.3 * image.mean(axis=2, keepdims=True)).astype(np.uint8)
    return _outlined(np.where(pixels[:, :, None], image, dark), pixels)


def tinted(image: UInt8[np.ndarray, "H W 3"], foreground: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with its foreground (True) tinted and outlined."""
    mixed = (0.55 * image + 0.45 * np.array(TINT)).astype(np.uint8)
    return _outlined(np.where(foreground[:, :, None], mixed, image), foreground)


def _outlined(picture: UInt8[np.ndarray, "H W 3"], inside: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """White on the border pixels of `inside`, so that it shows on dark and bright images alike."""
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(picture), outlines, -1, (255, 255, 255), 1))


def birds_eye(
    frame: Frame, plans_m: Mapping[str, Float[np.ndarray, "6 2"]], drivable: Bool[np.ndarray, "1000 1000"] | None
) -> Figure:
    """Planned paths against the recorded one, seen from above: ahead is up, metres; every path starts at the car.

    `drivable` as in `planning.base.Truth`: row = y left, column = x forward, 0.1 m, the ego in the middle.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 6.2), layout="constrained")
        draw_birds_eye(figure.subplots(), frame, plans_m, drivable)
        figure.legend(loc="outside lower center", ncols=2)
        return figure


def draw_birds_eye(
    axes: Axes,
    frame: Frame,
    plans_m: Mapping[str, Float[np.ndarray, "6 2"]],
    drivable: Bool[np.ndarray, "1000 1000"] | None,
) -> None:
    """`birds_eye` on axes of another figure, without the legend."""
    if drivable is not None:
        road = drivable.T[:, ::-1]  # rows: x forward; columns: from left to right
        axes.imshow(np.where(road, 0.9, 1.0), cmap="gray", vmin=0, vmax=1, extent=(-50, 50, -50, 50), origin="lower")
    _draw_boxes(axes, frame)
    _draw_path(axes, frame.future_ego_m, RECORDED, BLACK, "*")
    looks = colour_of([name for name in plans_m if name != UNPRUNED])
    for name, path_m in plans_m.items():
        _draw_path(axes, path_m, name, *looks.get(name, (GREY, "X")))
    paths_m = np.abs(np.vstack([frame.future_ego_m, *plans_m.values()])).max(axis=0)
    ahead_m, aside_m = np.clip(1.1 * paths_m, [AHEAD_M, ASIDE_M], 50)
    axes.set(xlim=(-aside_m, aside_m), ylim=(-BEHIND_M, ahead_m), aspect="equal")
    axes.set(xlabel="to the right (m)", ylabel="ahead (m)")
    axes.grid(visible=False)


def _draw_path(axes: Axes, path_m: Float[np.ndarray, "6 2"], name: str, colour: str, marker: str) -> None:
    whole = np.vstack([np.zeros((1, 2)), path_m])
    width = 2.5 if name == RECORDED else 1.3
    axes.plot(
        -whole[:, 1], whole[:, 0], color=colour, marker=marker, ms=5, lw=width, label=name, markevery=slice(1, None)
    )


def _draw_boxes(axes: Axes, frame: Frame) -> None:
    for corner_m in corners_m(frame.boxes, inverse(frame.global_from_ego)):
        axes.add_patch(Polygon(np.stack([-corner_m[:, 1], corner_m[:, 0]], axis=1), fc="#bdbdbd", ec="#6b6b6b", lw=0.8))
    length_m, width_m = BOX_LW_M
    ego = [(x * width_m / 2, CENTER_AHEAD_M + y * length_m / 2) for x, y in _SQUARE]
    axes.add_patch(Polygon(ego, fc="white", ec=BLACK, lw=1.2))


_SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def corners_m(boxes: Boxes, ego_from_global: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "M 4 2"]:
    """Footprints of the boxes in the ego frame."""
    half_lw_m = boxes.sizes_wlh_m[:, None, [1, 0]] / 2 * np.array(_SQUARE)
    local_m = np.concatenate([half_lw_m, np.zeros((len(boxes), 4, 1))], axis=2)
    turned_m = np.einsum("mij,mkj->mki", rotations(boxes.rotations_wxyz), local_m)
    return move(ego_from_global, turned_m + boxes.centers_m[:, None])[..., :2]
