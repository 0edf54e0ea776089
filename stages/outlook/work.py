"""How much work a stage is: in closed form, so that what one run took says what another will take."""

from collections.abc import Mapping
from typing import get_args

from stages.backbone.tokens import keep_count
from stages.core.journal.counts import CAMERAS
from stages.core.journal.graph import Stage
from stages.core.params import Control, Params, Vla
from stages.efficiency.flops import decode_bytes, decode_flops, prompt_flops
from stages.efficiency.shapes import ModelShape
from stages.outlook.row import Work
from stages.outlook.shape import grid_of, layer_of
from stages.training.work import training_flops

TAUGHT_ANSWER_TOKENS = 150  # of a released driver (infra/params/paper.yaml); the small one has few
BF16_BYTES = 2


def work_of(stage: Stage, params: Params, frames: Mapping[str, int | None], shape: ModelShape) -> Work | None:
    """Of a stage of the graph at these params; None for one that is not known, or whose images cannot be counted."""
    train, judged = frames["train"], frames["eval"]
    match stage.module.removeprefix("stages."):
        case "make_world":
            world = params.make_world
            images = CAMERAS * world.samples_per_scene * (world.train_scenes + world.val_scenes)
            pixels = images * world.size_px[0] * world.size_px[1]
            return Work(pixels, "drawn pixels", f"{images:,} images of {world.size_px[0]} x {world.size_px[1]} px")
        case "train_driver":
            mine = params.train_driver
            steps = mine.tower_steps + mine.language_regression_steps + mine.language_answer_steps
            return Work(steps * mine.batch_size, "samples learned", f"{steps:,} steps x {mine.batch_size}")
        case "make_report":
            return Work(1, "reports", "one page")
        case "generate_masks" if train is not None and judged is not None:
            images = CAMERAS * (train + judged)
            return Work(images, f"images by {params.generate_masks.annotator}", f"{images:,} images")
        case "train_pruner" if train is not None:
            return _training(params, stage.cell, CAMERAS * train, shape)
        case "plan_routes" if judged is not None:
            return _planning(params, stage.cell, judged, shape)
        case "score_plans" if judged is not None:
            plans = sum(len(params.grid.ratios_of(row)) for row in params.grid.names)
            return Work(judged * plans, "plans scored", f"{judged:,} key frames x {plans} rows and ratios")
        case "profile_efficiency":
            ratios = sum(len(params.grid.ratios_of(row)) for row in params.grid.methods)
            pairs = params.profile_efficiency.pairs
            return Work(pairs * (1 + ratios), f"requests timed, {params.vla.name}", f"{pairs} rounds x {1 + ratios}")
    return None


def _training(params: Params, cell: str, images: int, shape: ModelShape) -> Work:
    """Passes of every draw, and the tower once for each image, or at each draw where nothing keeps its tokens."""
    options = params.training(cell)
    grid, drawn = grid_of(options.size_px, shape.vision), options.steps * options.batch_size
    learnt = training_flops(layer_of(shape), None, grid, options).done
    encoded = images if options.token_cache else drawn
    total = drawn * learnt + encoded * prompt_flops(shape, grid, 0, 0).vision
    words = f"{options.steps:,} steps x {options.batch_size} x {learnt / 1e9:.3g} GFLOP + {encoded:,} images encoded"
    return Work(total, f"FLOP, {params.vla.name}", words, flops=True)


def _planning(params: Params, row: str, judged: int, shape: ModelShape) -> Work:
    """One vision pass a frame; a prefill and an answer at each ratio. What choosing costs is left out."""
    method, L = "none" if row in get_args(Control) else row, params.profile_efficiency.prompt_tokens
    grid, answer = planned_grid(params.vla, shape), answer_tokens(params)
    ratios = params.grid.ratios_of(row if method != "none" else "none")
    flops, read = float(prompt_flops(shape, grid, 0, 0).vision), 0.0
    for percent in ratios:
        kept = keep_count(grid[0] * grid[1], percent)
        parts = prompt_flops(shape, grid, kept, L)
        flops += parts.llm + parts.lm_head_last + answer * decode_flops(shape.language, kept + L)
        read += answer * decode_bytes(shape.language, kept + L, BF16_BYTES) / params.plan_routes.batch_size
    words = f"{judged:,} key frames x {len(ratios)} ratios, {flops / 1e9:.3g} GFLOP a frame"
    return Work(judged * flops, f"FLOP, {params.vla.name}", words, flops=True, read_bytes=judged * read)


def planned_grid(vla: Vla, shape: ModelShape) -> tuple[int, int]:
    """Tokens of the driver's image; with a budget of pixels as many as it allows, in a square."""
    if vla.fit != "budget":
        return grid_of(vla.size_px, shape.vision)
    side = int(vla.max_pixels**0.5) // (shape.vision.patch_px * shape.vision.merge)
    return side, side


def answer_tokens(params: Params) -> int:
    """Of a usual answer."""
    return params.profile_efficiency.answer_tokens if params.vla.name == "toy" else TAUGHT_ANSWER_TOKENS
