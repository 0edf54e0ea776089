"""The pictures of `fastdrive demo` (a drawn key frame, the tokens that the committed pruner keeps, their
reconstruction, the plans of the committed driver) and `fastdrive prune`. Start reading at `draw_demo` and `draw_kept`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image, ImageOps
from transformers import Qwen2_5_VLConfig

from stages.backbone.qwen import load_model
from stages.backbone.tokens import keep_count
from stages.backbone.vision import FastTower
from stages.core.errors import DataError
from stages.core.io import read_json, sha256, write_bytes, write_json
from stages.efficiency.flops import account
from stages.pruning import base, checkpoint
from stages.pruning.recon import MADE_BY, ReconPruner, build, method_of
from stages.report.figures import STYLE
from stages.report.images import RGB, draw_birds_eye, kept_tokens, tinted
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
EVENTS = ("pedestrian", "obstacle_right", "obstacle_left", "lead", "red", "green", "curve")  # the first that there is
NEAR_M = 60.0  # boxes farther away are left out
WIDEST_PX, NARROWEST_PX = 1280, 112  # of a user's image in its picture


@dataclass(frozen=True)
class Demo:
    """A drawn key frame with its truth, and what driver, pruner and decoder make of it."""

    frame: Frame
    drivable: Bool[np.ndarray, "1000 1000"]  # as in planning.base.Truth
    grid: tuple[int, int]  # h, w
    scores: Float[np.ndarray, " N"]
    plans_m: dict[int, Float[np.ndarray, "6 2"]]  # by prune ratio in percent, 0 is unpruned
    panels: dict[str, tuple[RGB, str]]  # those that are images, with their titles
    headline: str
    numbers: dict[str, Any]  # of the JSON beside the picture


def draw_demo(out: Path, seed: int, percent: int, percents: Sequence[int]) -> dict[str, Any]:
    """Write the PNG `out`, its numbers as JSON beside it; return them. Raises DataError for damaged weights."""
    torch.set_num_threads(1)  # a model this small gains nothing by more
    demo = make_demo(seed, percents)
    write_bytes(out, _strip(demo, percent))
    write_json(out.with_suffix(".json"), demo.numbers)
    return demo.numbers


def draw_kept(image: Path, folder: Path, model: Path, percent: int, out: Path) -> dict[str, Any]:
    """Write the PNG `out` and its numbers as JSON beside it; return the numbers.

    The tower of `model` sees the image at the size that the pruner in `folder` was trained on. Raises DataError for an
    image or weights that cannot be read or belong to another encoder.
    """
    whole = read_image_file(image)
    config = checkpoint.read_config(folder, MADE_BY)
    pruner = base.load(method_of(config), {"checkpoint": str(folder)})
    assert isinstance(pruner, base.ScoringPruner)  # as all trained ones are
    try:
        (width, height), fit = config["view"]["size_px"], config["view"]["fit"]
    except (KeyError, TypeError, ValueError) as error:
        expected = f"the `view` (size_px and fit of its images) that {folder} was trained with, in config.json"
        raise DataError(expected=expected, got=repr(error), fix=f"run `{MADE_BY}`") from error
    size_px = (width, height)
    seen, tower = resize(whole, size_px, fit), FastTower(load_model(model))
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
    config = Qwen2_5_VLConfig(**read_json(model / "config.json", "dvc repro train_driver"))
    rows: list[dict[str, Any]] = account(config, grid, PROMPT_TOKENS, percents, pruner)["rows"]
    return rows


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


@torch.inference_mode()
def make_demo(seed: int, percents: Sequence[int]) -> Demo:
    """Draw the key frame of a scene that shows the most; plan at each ratio, score tokens, reconstruct both grounds."""
    scenario = simulate(seed, steps=20)
    events = [scenario.event(step) for step in range(scenario.steps)]
    event = next((event for event in EVENTS if event in events), events[0])
    steps = [step for step, other in enumerate(events) if other == event]
    step = steps[len(steps) // 2]
    image, classes = draw(scenario, step, FRONT, SIZE_PX)
    view = checkpoint.read_config(PRUNER, RESTORED_BY)["view"]
    pruner = base.load("recon", {"checkpoint": str(PRUNER)})
    assert isinstance(pruner, base.ScoringPruner)
    driver = Driver(DriverOptions(DRIVER, tuple(view["size_px"]), view["fit"], batch_size=1))
    with TemporaryDirectory() as folder:
        path = Path(folder, "front.jpg")
        write_bytes(path, jpeg(image))
        frame = _frame(scenario, step, path)
        tokens = driver.view(driver.images([frame]), (frame.token,), driver.ask([frame]))
        plans = {percent: plan for percent, (plan,) in driver.plan([frame], pruner, percents).items()}
        unpruned = driver.plan([frame], base.load("none", {}), [0])[0][0]
    grid, scores = tokens.grid, pruner.score(tokens)[0].numpy()
    rebuilt = load_reconstruction(PRUNER)(tokens.tokens, grid)
    assert rebuilt.fore is not None
    assert rebuilt.back is not None
    N, positive, foreground = len(scores), int(rebuilt.keep.sum()), classes > 0
    fore, back = (
        np.asarray((255 * part[0].clamp(0, 1).numpy()).round().transpose(1, 2, 0), np.uint8)
        for part in (rebuilt.fore, rebuilt.back)
    )
    shown = {
        "camera": (image, "1  front camera (drawn)"),
        "mask": (tinted(image, foreground), f"2  true foreground, blue ({100 * foreground.mean():.0f} %)"),
        "foreground": (fore, f"4  reconstructed from the {positive} with S > 0"),
        "background": (back, f"8  reconstructed from the {N - positive} others"),
    }
    for number, (percent, plan) in enumerate(plans.items(), 5):
        title = f"{number}  kept: {len(plan.kept)} of {N} tokens ({percent} % pruned)"
        shown[f"kept_{percent}"] = (kept_tokens(image, plan.kept, grid), title)
    plans_m = {0: unpruned.waypoints_m} | {percent: plan.waypoints_m for percent, plan in plans.items()}
    away_m = {at: np.linalg.norm(path_m - frame.future_ego_m, axis=1).mean() for at, path_m in plans_m.items()}
    counts = {0: N} | {percent: len(plan.kept) for percent, plan in plans.items()}
    each = ";  ".join(f"of {counts[at]} tokens {l2_m:.2f} m" for at, l2_m in away_m.items())
    headline = (
        f"FastDrive demo: {event.replace('_', ' ')}, {scenario.condition}, {frame.speed_mps:.1f} m/s. One image is "
        f"{grid[0]} x {grid[1]} = {N} visual tokens; the pruner scores each (S).\n"
        f"Mean distance from the recorded path over 3 s: plan {each}."
    )
    numbers = {
        "seed": seed,
        "event": event,
        "speed_mps": round(frame.speed_mps, 3),
        "grid": list(grid),
        "tokens": N,
        "kept": {str(percent): plan.kept.tolist() for percent, plan in plans.items()},
        "taken_for_foreground": positive,
        "scores": [round(float(score), 4) for score in scores],
        "plans_m": {str(at): path_m.round(2).tolist() for at, path_m in plans_m.items()},
        "recorded_m": frame.future_ego_m.round(2).tolist(),
        "l2_m": {str(at): round(float(l2_m), 3) for at, l2_m in away_m.items()},
        "flops_ratio": {
            str(row["percent"]): round(row["ratio"]["with_vision"], 3)
            for row in _costs(DRIVER, grid, percents, pruner)[1:]
        },
    }
    return Demo(frame, _drivable(scenario, frame), grid, scores, plans_m, shown, headline, numbers)


def _frame(scenario: Scenario, step: int, path: Path) -> Frame:
    """Return a key frame of a scene as drivers read it, with the boxes nearer than NEAR_M; its image is in `path`."""
    x, y, yaw_rad = ego = scenario.ego_poses[step]
    near = [actor for actor in scenario.actors if np.hypot(*(actor.poses[step, :2] - ego[:2])) < NEAR_M]
    sizes_wlh_m = np.array([actor.size_wlh_m for actor in near], float).reshape(-1, 3)
    poses = np.array([actor.poses[step] for actor in near], float).reshape(-1, 3)
    boxes = Boxes(
        tuple(actor.category for actor in near),
        tuple(map(str, range(len(near)))),
        np.column_stack([poses[:, :2], sizes_wlh_m[:, 2] / 2]),
        sizes_wlh_m,
        np.array([quaternion(turn_rad) for turn_rad in poses[:, 2]], float).reshape(-1, 4),
    )
    rig = RIGS[FRONT]
    return Frame(
        token=f"drawn-{scenario.seed}-{step}",
        scene=f"drawn-{scenario.seed}",
        location=scenario.location,
        description=scenario.description,
        timestamp_us=0,
        global_from_ego=pose(np.array([x, y, 0.0]), np.array(quaternion(yaw_rad))),
        ego_from_lidar=np.eye(4),
        cameras={FRONT: Camera(FRONT, "front", path, SIZE_PX, intrinsic(rig, SIZE_PX), camera_from_scene(rig, ego))},
        boxes=boxes,
        speed_mps=float(scenario.speed_mps[step]),
        future_ego_m=scenario.future_ego_m(step),
    )


def _drivable(scenario: Scenario, frame: Frame) -> Bool[np.ndarray, "1000 1000"]:
    raster = np.zeros((1000, 1000), np.uint8)
    ego_from_global = inverse(frame.global_from_ego)
    for ring_m in (scenario.road.main_ring(), *scenario.road.side_rings()):
        ego_m = ring_m @ ego_from_global[:2, :2].T + ego_from_global[:2, 3]
        cells = np.rint(ego_m / 0.1 + 500).clip(-10_000, 10_000).astype(np.int32)  # column x, row y
        cv2.fillPoly(raster, [cells], 1)
    return raster > 0


def load_reconstruction(folder: Path) -> Reconstruction:
    """Return a pruner with the decoder that it was trained with. Raises DataError for damaged files."""
    pruner: ReconPruner = checkpoint.load(folder, build, RESTORED_BY)[0]
    decoder = checkpoint.load(folder / "decoder", of_facts, RESTORED_BY)[0]
    return Reconstruction(pruner, decoder, "sigmoid").eval().requires_grad_(False)


# Drawing


def _strip(demo: Demo, percent: int) -> bytes:
    """Return the whole picture of the demo as a PNG."""
    with mpl.rc_context(STYLE | {"font.size": 14, "axes.titlesize": 15}):
        figure = Figure(figsize=(23.3, 7.8), dpi=100)
        figure.subplots_adjust(left=0.008, right=0.99, top=0.86, bottom=0.08, wspace=0.06, hspace=0.4)
        axes: dict[str, Axes] = figure.subplot_mosaic(PANELS, width_ratios=(1, 1, 1, 1, 0.1, 0.8))
        for name, (image, title) in demo.panels.items():
            _show(axes[name], image, title)
        heat = _show_saliency(
            axes["saliency"], demo.panels["camera"][0], demo.scores, demo.grid, "3  saliency S of each token"
        )
        _colour_bar(figure, heat, cax=axes["saliency"].inset_axes((0, -0.09, 1, 0.05)), orientation="horizontal")
        counts = {0: demo.numbers["tokens"], percent: len(demo.numbers["kept"][str(percent)])}
        plans_m = {f"plan of {count} tokens": demo.plans_m[at] for at, count in counts.items()}
        draw_birds_eye(axes["road"], demo.frame, plans_m, demo.drivable)
        axes["road"].set_title("9  plan from above, 3 s", loc="left")
        figure.legend(*axes["road"].get_legend_handles_labels(), loc="upper right", ncols=3)
        figure.suptitle(demo.headline, x=0.01, ha="left")
        return _png(figure)


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
