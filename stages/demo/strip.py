"""The demo's one picture: what the driver sees, what the pruner keeps of it, what that paints, where the plans lead."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.demo.frame import Drawn
from stages.demo.look import Look
from stages.report.figures import STYLE
from stages.report.pictures import draw_birds_eye, kept_tokens, tinted

DPI = 100
WIDTH_PX, HEIGHT_PX = 2330, 780  # of the picture
LEFT_PX, TOP_PX, GAP_PX, ROW_PX = 16, 92, 16, 368  # where panels begin, between them, from one row to the next
PANEL_PX = (448, 252)  # the drawn image as it is, pixel for pixel
ROAD_PX = (1945, 92, 2310, 590)  # x0, y0, x1, y1
SCALE = "cividis"  # as bright to colour-blind readers as to others
PANELS = ("camera", "mask", "saliency", "foreground", "kept_25", "kept_50", "kept_75", "background")

Image = UInt8[np.ndarray, "H W 3"]


def strip(drawn: Drawn, seen: Look, percent: int) -> tuple[bytes, dict[str, Any]]:
    """A PNG, and where in it each panel lies: x0, y0, x1, y1 in pixels. The plan at `percent` is drawn."""
    boxes = {name: _place(*divmod(i, 4)) for i, name in enumerate(PANELS)}
    with mpl.rc_context(STYLE | {"font.size": 14, "axes.titlesize": 15}):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
        axes = {name: _axes(figure, box) for name, box in boxes.items()}
        for name, (image, title) in _pictures(drawn, seen).items():
            _show(axes[name], image, title)
        _saliency(figure, axes["saliency"], boxes["saliency"], drawn.image, seen)
        road = _axes(figure, ROAD_PX)
        draw_birds_eye(road, drawn.frame, _plans(seen, percent), drawn.drivable)
        road.set_anchor("N")
        road.set_title("9  plan from above, 3 s", loc="left")
        under = (ROAD_PX[0] / WIDTH_PX, 1 - (ROAD_PX[3] + 70) / HEIGHT_PX)
        figure.legend(*road.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=under)
        figure.text(LEFT_PX / WIDTH_PX, 1 - 36 / HEIGHT_PX, _headline(drawn, seen), fontsize=17)
        figure.text(LEFT_PX / WIDTH_PX, 22 / HEIGHT_PX, _footline(drawn, seen), fontsize=14)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue(), {name: list(box) for name, box in boxes.items()}


def _place(row: int, column: int) -> tuple[int, int, int, int]:
    x, y = LEFT_PX + column * (PANEL_PX[0] + GAP_PX), TOP_PX + row * ROW_PX
    return x, y, x + PANEL_PX[0], y + PANEL_PX[1]


def _axes(figure: Figure, box_px: tuple[int, int, int, int]) -> Axes:
    x0, y0, x1, y1 = box_px
    return figure.add_axes((x0 / WIDTH_PX, 1 - y1 / HEIGHT_PX, (x1 - x0) / WIDTH_PX, (y1 - y0) / HEIGHT_PX))


def _pictures(drawn: Drawn, seen: Look) -> Mapping[str, tuple[Image, str]]:
    N, share = len(seen.scores), 100 * (drawn.classes > 0).mean()
    kept = {
        f"kept_{percent}": (
            kept_tokens(drawn.image, tokens, seen.grid),
            f"{5 + i}  kept: {len(tokens)} of {N} tokens ({percent} % pruned)",
        )
        for i, (percent, tokens) in enumerate(seen.kept.items())
    }
    fore = f"4  painted from the {seen.foreground} tokens with S > 0"
    back = f"8  painted from the {N - seen.foreground} others"
    return {
        "camera": (drawn.image, "1  front camera (drawn)"),
        "mask": (tinted(drawn.image, drawn.classes > 0), f"2  true foreground, blue ({share:.0f} %)"),
        "foreground": (_pixels(seen.fore), fore),
        **kept,
        "background": (_pixels(seen.back), back),
    }


def _headline(drawn: Drawn, seen: Look) -> str:
    what = f"{drawn.event.replace('_', ' ')}, {drawn.condition}, {drawn.frame.speed_mps:.1f} m/s"
    h, w = seen.grid
    return f"FastDrive demo: {what}. One image is {h} x {w} = {h * w} visual tokens; the pruner scores each (S)."


def _footline(drawn: Drawn, seen: Look) -> str:
    counts = {0: len(seen.scores)} | {percent: len(tokens) for percent, tokens in seen.kept.items()}
    away_m = {percent: l2_m(path_m, drawn.frame.future_ego_m) for percent, path_m in seen.plans_m.items()}
    each = ";  ".join(f"of {counts[percent]} tokens {away_m[percent]:.2f} m" for percent in seen.plans_m)
    return f"Mean distance from the recorded path over 3 s: plan {each}."


def l2_m(path_m: Float[np.ndarray, "6 2"], recorded_m: Float[np.ndarray, "6 2"]) -> float:
    """Mean distance of the points of a path from the recorded ones."""
    return float(np.linalg.norm(path_m - recorded_m, axis=1).mean())


def _plans(seen: Look, percent: int) -> dict[str, Float[np.ndarray, "6 2"]]:
    names = {0: f"plan of all {len(seen.scores)} tokens", percent: f"plan of {len(seen.kept[percent])} tokens"}
    return {name: seen.plans_m[at] for at, name in names.items()}


def _show(axes: Axes, image: Image, title: str) -> None:
    axes.imshow(image, extent=(0, 16, 9, 0), interpolation="nearest")
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _saliency(figure: Figure, axes: Axes, box_px: tuple[int, int, int, int], image: Image, seen: Look) -> None:
    grey = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    _show(axes, grey, "3  saliency S of each token")
    heat = axes.imshow(seen.scores.reshape(seen.grid), extent=(0, 16, 9, 0), cmap=SCALE, alpha=0.7)
    x0, _, x1, y1 = box_px
    bar = figure.colorbar(heat, cax=_axes(figure, (x0, y1 + 8, x1, y1 + 20)), orientation="horizontal")
    bar.ax.tick_params(labelsize=11, pad=2)
    bar.set_label("dropped first  \N{LEFTWARDS ARROW}  S  \N{RIGHTWARDS ARROW}  kept longest", fontsize=12, labelpad=2)


def _pixels(image: Float[np.ndarray, "3 H W"]) -> Image:
    return np.asarray((255 * image).round().transpose(1, 2, 0), np.uint8)
