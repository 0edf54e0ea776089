"""The picture of `fastdrive demo`: a drawn frame, the tokens that the committed pruner keeps, their reconstruction, and
the plans of the committed driver. Start reading at `show`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.cli.demo_frame import Drawn, draw_frame
from stages.core.errors import DataError
from stages.core.io import read_json, write_bytes, write_json
from stages.efficiency.accounts import account
from stages.efficiency.shapes import model_shape
from stages.pruning import base, checkpoint
from stages.pruning.recon import ReconPruner, build
from stages.report.figures import STYLE
from stages.report.images import draw_birds_eye, kept_tokens, tinted
from stages.scenes.base import Frame
from stages.training.decoder import of_facts
from stages.training.model import Reconstruction
from stages.vla.base import DriverOptions
from stages.vla.toy import Driver

ROOT = Path(__file__).parents[2]
DRIVER, PRUNER = ROOT / "models/driver", ROOT / "models/demo"
DECODER = "decoder"  # inside the pruner's folder
RESTORED_BY = "git checkout models/demo"
PROMPT_TOKENS = 100  # of text beside the image, as profile_efficiency counts

DPI = 100
WIDTH_PX, HEIGHT_PX = 2330, 780  # of the picture
LEFT_PX, TOP_PX, GAP_PX, ROW_PX = 16, 92, 16, 368  # where panels begin, between them, from one row to the next
PANEL_PX = (448, 252)  # the drawn image as it is, pixel for pixel
ROAD_PX = (1945, 92, 2310, 590)  # x0, y0, x1, y1
SCALE = "cividis"  # as bright to colour-blind readers as to others
PANELS = ("camera", "mask", "saliency", "foreground", "kept_25", "kept_50", "kept_75", "background")

Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Result:
    """Output of driver, pruner and decoder for one frame."""

    grid: tuple[int, int]  # h, w
    scores: Float[np.ndarray, " N"]
    kept: dict[int, Int[np.ndarray, " K"]]  # by prune ratio in percent
    plans_m: dict[int, Float[np.ndarray, "6 2"]]  # by prune ratio, 0 is unpruned
    foreground: int  # tokens with S > 0
    fore: Float[np.ndarray, "3 h2 w2"]  # reconstructed from those, in [0, 1]
    back: Float[np.ndarray, "3 h2 w2"]  # reconstructed from the others


def show(out: Path, seed: int, percent: int, percents: Sequence[int]) -> dict[str, Any]:
    """Write the PNG `out` with the plan at `percent` and its numbers as JSON beside it; return the numbers.

    Raises DataError for damaged weights.
    """
    torch.set_num_threads(1)  # a model this small gains nothing by more
    with TemporaryDirectory() as folder:
        drawn = draw_frame(seed, Path(folder))
        result = run_frame(drawn.frame, percents)
    picture, panels = strip(drawn, result, percent)
    numbers = {
        "seed": seed,
        "event": drawn.event,
        "speed_mps": round(drawn.frame.speed_mps, 3),
        "grid": list(result.grid),
        "tokens": len(result.scores),
        "kept": {str(p): tokens.tolist() for p, tokens in result.kept.items()},
        "taken_for_foreground": result.foreground,
        "scores": [round(float(score), 4) for score in result.scores],
        "plans_m": {str(p): path_m.round(2).tolist() for p, path_m in result.plans_m.items()},
        "recorded_m": drawn.frame.future_ego_m.round(2).tolist(),
        "l2_m": {str(p): round(_l2_m(path_m, drawn.frame.future_ego_m), 3) for p, path_m in result.plans_m.items()},
        "flops_ratio": _flops_ratios(result.grid, percents),
        "panels_px": panels,
    }
    write_bytes(out, picture)
    write_json(out.with_suffix(".json"), numbers)
    return numbers


@torch.inference_mode()
def run_frame(frame: Frame, percents: Sequence[int]) -> Result:
    """Plan unpruned and at each ratio, score the tokens, reconstruct both grounds."""
    pruner = base.load("recon", {"checkpoint": str(PRUNER)})
    assert isinstance(pruner, base.ScoringPruner)
    size_px, fit = view_of(PRUNER, RESTORED_BY)
    driver = Driver(DriverOptions(DRIVER, size_px, fit, batch_size=1))
    view = driver.view(driver.images([frame]), (frame.token,), driver.ask([frame]))
    plans = {percent: plan for percent, (plan,) in driver.plan([frame], pruner, percents).items()}
    unpruned = driver.plan([frame], base.load("none", {}), [0])[0][0]
    rebuilt = load_reconstruction(PRUNER)(view.tokens, view.grid)
    assert rebuilt.fore is not None
    assert rebuilt.back is not None
    fore, back = (part[0].clamp(0, 1).numpy() for part in (rebuilt.fore, rebuilt.back))
    return Result(
        view.grid,
        pruner.score(view)[0].numpy(),
        {percent: plan.kept for percent, plan in plans.items()},
        {0: unpruned.waypoints_m} | {percent: plan.waypoints_m for percent, plan in plans.items()},
        int(rebuilt.keep.sum()),
        fore,
        back,
    )


def view_of(folder: Path, made_by: str) -> tuple[tuple[int, int], str]:
    """Return size (W, H) in pixels and fit of the images that a pruner was trained on."""
    config = checkpoint.read_config(folder, made_by)
    try:
        width, height = config["view"]["size_px"]
        return (int(width), int(height)), str(config["view"]["fit"])
    except (KeyError, TypeError, ValueError) as error:
        expected = f"the `view` that {folder} was trained with, in config.json"
        raise DataError(expected=expected, got=repr(error), fix=f"run `{made_by}`") from error


def load_reconstruction(folder: Path) -> Reconstruction:
    """Return a pruner with the decoder that it was trained with. Raises DataError for damaged files."""
    pruner: ReconPruner = checkpoint.load(folder, build, RESTORED_BY)[0]
    decoder, facts = checkpoint.load(folder / DECODER, of_facts, RESTORED_BY)
    module = Reconstruction(pruner, decoder, "sigmoid", centred=facts["centred"])
    return module.eval().requires_grad_(False)


def _flops_ratios(grid: tuple[int, int], percents: Sequence[int]) -> dict[str, float]:
    """Return FLOPs of a prompt unpruned / pruned by prune ratio, vision tower and choosing included."""
    shape = model_shape(read_json(DRIVER / "config.json", "dvc repro train_driver"))
    rows = account(shape, grid, PROMPT_TOKENS, percents, base.load("recon", {"checkpoint": str(PRUNER)}))["rows"]
    return {str(row["percent"]): round(row["ratio"]["with_vision"], 3) for row in rows if row["percent"]}


def strip(drawn: Drawn, result: Result, percent: int) -> tuple[bytes, dict[str, Any]]:
    """Return a PNG, and x0, y0, x1, y1 in pixels of each panel in it."""
    boxes = {name: _place(*divmod(i, 4)) for i, name in enumerate(PANELS)}
    with mpl.rc_context(STYLE | {"font.size": 14, "axes.titlesize": 15}):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
        axes = {name: _axes(figure, box) for name, box in boxes.items()}
        for name, (image, title) in _pictures(drawn, result).items():
            _show(axes[name], image, title)
        _saliency(figure, axes["saliency"], boxes["saliency"], drawn.image, result)
        road = _axes(figure, ROAD_PX)
        draw_birds_eye(road, drawn.frame, _plans(result, percent), drawn.drivable)
        road.set_anchor("N")
        road.set_title("9  plan from above, 3 s", loc="left")
        under = (ROAD_PX[0] / WIDTH_PX, 1 - (ROAD_PX[3] + 70) / HEIGHT_PX)
        figure.legend(*road.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=under)
        figure.text(LEFT_PX / WIDTH_PX, 1 - 36 / HEIGHT_PX, _headline(drawn, result), fontsize=17)
        figure.text(LEFT_PX / WIDTH_PX, 22 / HEIGHT_PX, _footline(drawn, result), fontsize=14)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue(), {name: list(box) for name, box in boxes.items()}


def _place(row: int, column: int) -> tuple[int, int, int, int]:
    x, y = LEFT_PX + column * (PANEL_PX[0] + GAP_PX), TOP_PX + row * ROW_PX
    return x, y, x + PANEL_PX[0], y + PANEL_PX[1]


def _axes(figure: Figure, box_px: tuple[int, int, int, int]) -> Axes:
    x0, y0, x1, y1 = box_px
    return figure.add_axes((x0 / WIDTH_PX, 1 - y1 / HEIGHT_PX, (x1 - x0) / WIDTH_PX, (y1 - y0) / HEIGHT_PX))


def _pictures(drawn: Drawn, result: Result) -> Mapping[str, tuple[Image, str]]:
    N, share = len(result.scores), 100 * (drawn.classes > 0).mean()
    kept = {
        f"kept_{percent}": (
            kept_tokens(drawn.image, tokens, result.grid),
            f"{5 + i}  kept: {len(tokens)} of {N} tokens ({percent} % pruned)",
        )
        for i, (percent, tokens) in enumerate(result.kept.items())
    }
    fore = f"4  reconstructed from the {result.foreground} tokens with S > 0"
    back = f"8  reconstructed from the {N - result.foreground} others"
    return {
        "camera": (drawn.image, "1  front camera (drawn)"),
        "mask": (tinted(drawn.image, drawn.classes > 0), f"2  true foreground, blue ({share:.0f} %)"),
        "foreground": (_pixels(result.fore), fore),
        **kept,
        "background": (_pixels(result.back), back),
    }


def _headline(drawn: Drawn, result: Result) -> str:
    what = f"{drawn.event.replace('_', ' ')}, {drawn.condition}, {drawn.frame.speed_mps:.1f} m/s"
    h, w = result.grid
    return f"FastDrive demo: {what}. One image is {h} x {w} = {h * w} visual tokens; the pruner scores each (S)."


def _footline(drawn: Drawn, result: Result) -> str:
    counts = {0: len(result.scores)} | {percent: len(tokens) for percent, tokens in result.kept.items()}
    away_m = {percent: _l2_m(path_m, drawn.frame.future_ego_m) for percent, path_m in result.plans_m.items()}
    each = ";  ".join(f"of {counts[percent]} tokens {away_m[percent]:.2f} m" for percent in result.plans_m)
    return f"Mean distance from the recorded path over 3 s: plan {each}."


def _l2_m(path_m: Float[np.ndarray, "6 2"], recorded_m: Float[np.ndarray, "6 2"]) -> float:
    """Return the mean distance of the points of a path from the recorded ones."""
    return float(np.linalg.norm(path_m - recorded_m, axis=1).mean())


def _plans(result: Result, percent: int) -> dict[str, Float[np.ndarray, "6 2"]]:
    names = {0: f"plan of all {len(result.scores)} tokens", percent: f"plan of {len(result.kept[percent])} tokens"}
    return {name: result.plans_m[at] for at, name in names.items()}


def _show(axes: Axes, image: Image, title: str) -> None:
    axes.imshow(image, extent=(0, 16, 9, 0), interpolation="nearest")
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _saliency(figure: Figure, axes: Axes, box_px: tuple[int, int, int, int], image: Image, result: Result) -> None:
    grey = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    _show(axes, grey, "3  saliency S of each token")
    heat = axes.imshow(result.scores.reshape(result.grid), extent=(0, 16, 9, 0), cmap=SCALE, alpha=0.7)
    x0, _, x1, y1 = box_px
    bar = figure.colorbar(heat, cax=_axes(figure, (x0, y1 + 8, x1, y1 + 20)), orientation="horizontal")
    bar.ax.tick_params(labelsize=11, pad=2)
    bar.set_label("dropped first  \N{LEFTWARDS ARROW}  S  \N{RIGHTWARDS ARROW}  kept longest", fontsize=12, labelpad=2)


def _pixels(image: Float[np.ndarray, "3 H W"]) -> Image:
    return np.asarray((255 * image).round().transpose(1, 2, 0), np.uint8)
