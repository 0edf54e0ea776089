"""The pictures of `fastdrive demo` (a drawn key frame, the tokens that the committed pruner keeps, their
reconstruction, the plans of the committed driver) and `fastdrive prune`. Start reading at `draw_demo` and `draw_kept`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image, ImageOps

from stages.backbone.tokens import keep_count
from stages.backbone.vision import load_vision
from stages.core.errors import DataError
from stages.core.io import read_json, sha256, write_bytes, write_json
from stages.efficiency.accounts import account
from stages.efficiency.flops import model_shape
from stages.pruning import base, checkpoint
from stages.pruning.recon import MADE_BY, ReconPruner, build, method_of
from stages.report.figures import STYLE
from stages.report.images import draw_birds_eye, kept_tokens, tinted
from stages.scenes.base import Boxes, Camera, Frame, inverse, pose
from stages.scenes.images import resize
from stages.scenes.world.camera import RIGS, camera_from_scene, intrinsic
from stages.scenes.world.drawing import draw
from stages.scenes.world.recording import jpeg, quaternion
from stages.scenes.world.scenario import Scenario, simulate
from stages.training.decoder import of_facts
from stages.training.model import Reconstruction
from stages.vla.base import DriverOptions
from stages.vla.prefill import token_view
from stages.vla.toy import Driver

ROOT = Path(__file__).parents[2]
DRIVER, PRUNER = ROOT / "models/driver", ROOT / "models/demo"  # the pruner's folder has its decoder in `decoder`
RESTORED_BY = "git checkout models/demo"
PROMPT_TOKENS = 100  # of text beside the image, as profile_efficiency counts
PANELS: list[Any] = [
    ["camera", "mask", "saliency", "foreground", ".", "road"],
    ["kept_25", "kept_50", "kept_75", "background", ".", "road"],
]
FRONT = "CAM_FRONT"
SIZE_PX = (448, 252)  # as make_world draws for the committed driver
STEPS = 20
EVENTS = ("pedestrian", "obstacle_right", "obstacle_left", "lead", "red", "green", "curve")  # the first that there is
NEAR_M = 60.0  # boxes farther away are left out
CELL_M, CELLS = 0.1, 1000  # of the raster of drivable area
WIDEST_PX, NARROWEST_PX = 1280, 112  # of a user's image in its picture

RGB = UInt8[np.ndarray, "H W 3"]
Path_m = Float[np.ndarray, "6 2"]


@dataclass(frozen=True)
class Drawn:
    """A drawn key frame, its truth, and the road around it."""

    frame: Frame
    event: str
    condition: str
    image: RGB
    classes: UInt8[np.ndarray, "H W"]  # 0 background, above it foreground
    drivable: Bool[np.ndarray, "1000 1000"]  # as in planning.base.Truth


@dataclass(frozen=True)
class Result:
    """Output of driver, pruner and decoder for one frame."""

    grid: tuple[int, int]  # h, w
    scores: Float[np.ndarray, " N"]
    kept: dict[int, Int[np.ndarray, " K"]]  # by prune ratio in percent
    plans_m: dict[int, Path_m]  # by prune ratio, 0 is unpruned
    foreground: int  # tokens with S > 0
    fore: Float[np.ndarray, "3 h2 w2"]  # reconstructed from those, in [0, 1]
    back: Float[np.ndarray, "3 h2 w2"]  # reconstructed from the others


def draw_demo(out: Path, seed: int, percent: int, percents: Sequence[int]) -> dict[str, Any]:
    """Write the PNG `out` with the plan at `percent` and its numbers as JSON beside it; return the numbers.

    Raises DataError for damaged weights.
    """
    torch.set_num_threads(1)  # a model this small gains nothing by more
    with TemporaryDirectory() as folder:
        drawn = draw_frame(seed, Path(folder))
        result = run_frame(drawn.frame, percents)
    recorded_m, pruner = drawn.frame.future_ego_m, base.load("recon", {"checkpoint": str(PRUNER)})
    costs = _costs(DRIVER, result.grid, percents, pruner)[1:]
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
        "recorded_m": recorded_m.round(2).tolist(),
        "l2_m": {str(p): round(_l2_m(path_m, recorded_m), 3) for p, path_m in result.plans_m.items()},
        "flops_ratio": {str(row["percent"]): round(row["ratio"]["with_vision"], 3) for row in costs},
    }
    write_bytes(out, _strip(drawn, result, percent))
    write_json(out.with_suffix(".json"), numbers)
    return numbers


def draw_kept(image: Path, folder: Path, model: Path, percent: int, out: Path) -> dict[str, Any]:
    """Write the PNG `out` and its numbers as JSON beside it; return the numbers.

    The tower of `model` sees the image at the size that the pruner in `folder` was trained on. Raises DataError for an
    image or weights that cannot be read or belong to another encoder.
    """
    whole = read_image_file(image)
    pruner = base.load(method_of(checkpoint.read_config(folder, MADE_BY)), {"checkpoint": str(folder)})
    assert isinstance(pruner, base.ScoringPruner)  # as all trained ones are
    size_px, fit = view_of(folder, MADE_BY)
    seen, tower = resize(whole, size_px, fit), load_vision(model)
    grid = tower.grid(size_px)
    N = grid[0] * grid[1]
    K = keep_count(N, percent)
    with torch.inference_mode():
        tokens = tower.encode(torch.from_numpy(seen).permute(2, 0, 1)[None])
        view = token_view(tokens, (grid,), (0,), (image.name,), tower.fingerprint)
        scores, kept = pruner.score(view)[0].numpy(), pruner.select(view, K).indices[0].numpy()
    unpruned, pruned = _costs(model, grid, [percent], pruner)
    gflops = [round(row["flops"]["with_vision"] / 1e9, 3) for row in (unpruned, pruned)]
    numbers = {
        "image": {"name": image.name, "size_px": [whole.shape[1], whole.shape[0]], "sha256": sha256(image)},
        "seen_px": list(size_px),
        "grid": list(grid),
        "tokens": N,
        "percent": percent,
        "tokens_kept": K,
        "kept": kept.tolist(),
        "scores": [round(float(score), 4) for score in scores],
        "gflops": {"unpruned": gflops[0], "pruned": gflops[1]},
        "flops_ratio": round(pruned["ratio"]["with_vision"], 3),
    }
    saved = (
        f"{K} of {N} tokens kept ({percent:g} % pruned);  {gflops[0]:.4g} \N{RIGHTWARDS ARROW} {gflops[1]:.4g} GFLOPs "
        f"with {PROMPT_TOKENS} tokens of text"
    )
    write_bytes(out, _pair(seen if fit == "pad" else whole, scores, kept, grid, saved))
    write_json(out.with_suffix(".json"), numbers)
    return numbers


def _costs(model: Path, grid: tuple[int, int], percents: Sequence[int], pruner: base.Pruner) -> list[dict[str, Any]]:
    """Return FLOPs of a prompt unpruned and at each prune ratio, vision tower and choosing included."""
    shape = model_shape(read_json(model / "config.json", "dvc repro train_driver"))
    rows: list[dict[str, Any]] = account(shape, grid, PROMPT_TOKENS, percents, pruner)["rows"]
    return rows


def view_of(folder: Path, made_by: str) -> tuple[tuple[int, int], str]:
    """Return size (W, H) in pixels and fit of the images that a pruner was trained on."""
    config = checkpoint.read_config(folder, made_by)
    try:
        width, height = config["view"]["size_px"]
        return (int(width), int(height)), str(config["view"]["fit"])
    except (KeyError, TypeError, ValueError) as error:
        expected = f"the `view` that {folder} was trained with, in config.json"
        raise DataError(expected=expected, got=repr(error), fix=f"run `{made_by}`") from error


def read_image_file(path: Path) -> RGB:
    """Return an image as RGB, turned upright by its EXIF tag.

    Raises DataError for a file that is no image, cut short, of 180 megapixels or more, or of over 8 bits a colour.
    """
    fix = "give a JPEG, PNG, WebP or BMP file, as in `fastdrive prune photo.jpg`"
    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP", "BMP")) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(expected=f"8 bits a colour in {path}", got=f"mode {image.mode}", fix=fix)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(expected=f"a whole image in {path}", got=str(error), fix=fix) from error


# The demo's frame, and what the models make of it


def draw_frame(seed: int, folder: Path) -> Drawn:
    """Draw the key frame of the scene `seed` that shows the most; write its image into `folder`, as drivers read it."""
    scenario = simulate(seed, STEPS)
    events = [scenario.event(step) for step in range(scenario.steps)]
    chosen = next((event for event in EVENTS if event in events), events[0])
    steps = [step for step, event in enumerate(events) if event == chosen]
    step = steps[len(steps) // 2]
    image, classes = draw(scenario, step, FRONT, SIZE_PX)
    path = folder / "front.jpg"
    write_bytes(path, jpeg(image))
    x, y, yaw_rad = ego = scenario.ego_poses[step]
    rig = RIGS[FRONT]
    frame = Frame(
        token=f"drawn-{seed}-{step}",
        scene=f"drawn-{seed}",
        location=scenario.location,
        description=scenario.description,
        timestamp_us=0,
        global_from_ego=pose(np.array([x, y, 0.0]), np.array(quaternion(yaw_rad))),
        ego_from_lidar=np.eye(4),
        cameras={FRONT: Camera(FRONT, "front", path, SIZE_PX, intrinsic(rig, SIZE_PX), camera_from_scene(rig, ego))},
        boxes=_boxes(scenario, step),
        speed_mps=float(scenario.speed_mps[step]),
        future_ego_m=scenario.future_ego_m(step),
    )
    return Drawn(frame, scenario.event(step), scenario.condition, image, classes, _drivable(scenario, frame))


def _boxes(scenario: Scenario, step: int) -> Boxes:
    ego_m = scenario.ego_poses[step, :2]
    near = [actor for actor in scenario.actors if np.hypot(*(actor.poses[step, :2] - ego_m)) < NEAR_M]
    sizes_wlh_m = np.array([actor.size_wlh_m for actor in near], float).reshape(-1, 3)
    places = np.array([actor.poses[step] for actor in near], float).reshape(-1, 3)
    centers_m = np.column_stack([places[:, :2], sizes_wlh_m[:, 2] / 2])
    turns = np.array([quaternion(yaw_rad) for yaw_rad in places[:, 2]], float).reshape(-1, 4)
    names = tuple(actor.category for actor in near)
    return Boxes(names, tuple(map(str, range(len(near)))), centers_m, sizes_wlh_m, turns)


def _drivable(scenario: Scenario, frame: Frame) -> Bool[np.ndarray, "1000 1000"]:
    raster = np.zeros((CELLS, CELLS), np.uint8)
    ego_from_global = inverse(frame.global_from_ego)
    for ring_m in (scenario.road.main_ring(), *scenario.road.side_rings()):
        ego_m = ring_m @ ego_from_global[:2, :2].T + ego_from_global[:2, 3]
        cells = np.rint(ego_m / CELL_M + CELLS / 2).clip(-10_000, 10_000).astype(np.int32)  # column x, row y
        cv2.fillPoly(raster, [cells], 1)
    return raster > 0


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


def load_reconstruction(folder: Path) -> Reconstruction:
    """Return a pruner with the decoder that it was trained with. Raises DataError for damaged files."""
    pruner: ReconPruner = checkpoint.load(folder, build, RESTORED_BY)[0]
    decoder, facts = checkpoint.load(folder / "decoder", of_facts, RESTORED_BY)
    module = Reconstruction(pruner, decoder, "sigmoid", centred=facts["centred"])
    return module.eval().requires_grad_(False)


# Drawing


def _strip(drawn: Drawn, result: Result, percent: int) -> bytes:
    """Return the whole picture of the demo as a PNG."""
    with mpl.rc_context(STYLE | {"font.size": 14, "axes.titlesize": 15}):
        figure = Figure(figsize=(23.3, 7.8), dpi=100)
        figure.subplots_adjust(left=0.008, right=0.99, top=0.86, bottom=0.08, wspace=0.06, hspace=0.4)
        axes: dict[str, Axes] = figure.subplot_mosaic(PANELS, width_ratios=(1, 1, 1, 1, 0.1, 0.8))
        for name, (image, title) in panels(drawn, result).items():
            _show(axes[name], image, title)
        heat = _show_saliency(axes["saliency"], drawn.image, result.scores, result.grid, "3  saliency S of each token")
        _colour_bar(figure, heat, cax=axes["saliency"].inset_axes((0, -0.09, 1, 0.05)), orientation="horizontal")
        counts = {0: len(result.scores)} | {at: len(tokens) for at, tokens in result.kept.items()}
        plans_m = {f"plan of {counts[at]} tokens": result.plans_m[at] for at in (0, percent)}
        draw_birds_eye(axes["road"], drawn.frame, plans_m, drawn.drivable)
        axes["road"].set_title("9  plan from above, 3 s", loc="left")
        figure.legend(*axes["road"].get_legend_handles_labels(), loc="upper right", ncols=3)
        h, w = result.grid
        event = f"{drawn.event.replace('_', ' ')}, {drawn.condition}, {drawn.frame.speed_mps:.1f} m/s"
        away_m = {at: _l2_m(path_m, drawn.frame.future_ego_m) for at, path_m in result.plans_m.items()}
        each = ";  ".join(f"of {counts[at]} tokens {away_m[at]:.2f} m" for at in result.plans_m)
        headline = (
            f"FastDrive demo: {event}. One image is {h} x {w} = {h * w} visual tokens; the pruner scores each (S)."
        )
        figure.suptitle(f"{headline}\nMean distance from the recorded path over 3 s: plan {each}.", x=0.01, ha="left")
        return _png(figure)


def panels(drawn: Drawn, result: Result) -> Mapping[str, tuple[RGB, str]]:
    """Return image and title of each panel of the demo that is one."""
    N, share = len(result.scores), 100 * (drawn.classes > 0).mean()
    kept = {
        f"kept_{percent}": (
            kept_tokens(drawn.image, tokens, result.grid),
            f"{5 + i}  kept: {len(tokens)} of {N} tokens ({percent} % pruned)",
        )
        for i, (percent, tokens) in enumerate(result.kept.items())
    }
    fore, back = (np.asarray((255 * part).round().transpose(1, 2, 0), np.uint8) for part in (result.fore, result.back))
    return {
        "camera": (drawn.image, "1  front camera (drawn)"),
        "mask": (tinted(drawn.image, drawn.classes > 0), f"2  true foreground, blue ({share:.0f} %)"),
        "foreground": (fore, f"4  reconstructed from the {result.foreground} with S > 0"),
        **kept,
        "background": (back, f"8  reconstructed from the {N - result.foreground} others"),
    }


def _pair(
    image: RGB, scores: Float[np.ndarray, " N"], kept: Int[np.ndarray, " K"], grid: tuple[int, int], saved: str
) -> bytes:
    """Return a PNG of the saliency over the image, and beside it the kept tokens."""
    H, W, _ = image.shape
    width, height = (max(NARROWEST_PX, round(side * WIDEST_PX / max(H, W))) for side in (W, H))
    image = resize(image, (width, height), "stretch")
    with mpl.rc_context(STYLE | {"font.size": 11}):
        figure = Figure(figsize=(12, max(3.2, min(12.0, 1.4 + 5.9 * height / width))), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        heat = _show_saliency(left, image, scores, grid, "saliency of each token")
        _show(right, kept_tokens(image, kept, grid), "kept tokens; dropped ones are dark")
        _colour_bar(figure, heat, ax=[left, right], location="bottom", shrink=0.5, aspect=50)
        figure.suptitle(saved, x=0.01, ha="left")
        return _png(figure)


def _l2_m(path_m: Path_m, recorded_m: Path_m) -> float:
    """Return the mean distance of the points of a path from the recorded ones."""
    return float(np.linalg.norm(path_m - recorded_m, axis=1).mean())


def _show(axes: Axes, image: RGB, title: str) -> None:
    axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _show_saliency(
    axes: Axes, image: RGB, scores: Float[np.ndarray, " N"], grid: tuple[int, int], title: str
) -> AxesImage:
    """Show the score of each token as colour over the image in grey; return the layer of colour."""
    H, W, _ = image.shape
    _show(axes, np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2), title)
    # cividis: as bright to colour-blind readers as to others
    return axes.imshow(scores.reshape(grid), extent=(0, W, H, 0), cmap="cividis", alpha=0.7)


def _colour_bar(figure: Figure, heat: AxesImage, **options: Any) -> None:
    bar = figure.colorbar(heat, **options)
    bar.set_label("dropped first  \N{LEFTWARDS ARROW}  saliency S  \N{RIGHTWARDS ARROW}  kept longest", labelpad=1)


def _png(figure: Figure) -> bytes:
    """Return a figure as PNG, the same bytes for the same drawing."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
