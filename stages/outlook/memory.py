"""The most memory that a stage will hold: as measured here at the same sizes, else parameters, optimiser, activations.

Closed forms are of what torch holds and leave out what kernels take for themselves: guesses, and marked so.
"""

from collections.abc import Mapping

from stages.core.journal.counts import CAMERAS
from stages.core.journal.graph import Stage
from stages.core.params import Params, TrainPruner
from stages.efficiency.shapes import LanguageShape, ModelShape
from stages.outlook.shape import driver_parameters, grid_of, tower_parameters, trained_parameters
from stages.outlook.work import answer_tokens, planned_grid

PROCESS_BYTES = 0.6e9  # Python with torch and a small data set
WORKER_BYTES = 0.4e9
ADAM_BYTES = 16  # of each trained weight in fp32: itself, its gradient, two moments
FP32_BYTES, BF16_BYTES = 4, 2
KEPT_WIDTHS, KEPT_MLPS = 8, 3  # numbers that a layer keeps of a token for the backward pass, in widths and MLP widths


def memory_bytes(
    stage: Stage, params: Params, frames: Mapping[str, int | None], shape: ModelShape, world: int
) -> float:
    """In closed form, of all processes on one device; `world` is the number of training processes."""
    match stage.module.removeprefix("stages."):
        case "train_pruner":
            images = CAMERAS * (frames["train"] or 0)
            return PROCESS_BYTES + training_bytes(params.training(stage.cell), shape, images, world)
        case "plan_routes" | "profile_efficiency":
            return PROCESS_BYTES + planning_bytes(params, shape)
        case "make_world":
            return PROCESS_BYTES + params.make_world.workers * WORKER_BYTES
        case "generate_masks":
            return PROCESS_BYTES + params.generate_masks.workers * WORKER_BYTES
        case "score_plans":
            return PROCESS_BYTES + params.score_plans.workers * WORKER_BYTES
    return PROCESS_BYTES


def training_bytes(options: TrainPruner, shape: ModelShape, images: int, world: int) -> float:
    """Weights, gradients and moments of what learns; the frozen tower; a batch's activations; images kept in memory."""
    number = BF16_BYTES if options.bf16 else FP32_BYTES
    h, w = grid_of(options.size_px, shape.vision)
    tokens, batch, D = h * w, options.batch_size // world, shape.language.width
    branches = 0 if options.objective == "mask_prediction" else 2 if options.adversarial else 1
    mlp = shape.language.mlp_width * options.decoder_width // D
    inner = options.decoder_width if options.recompute else KEPT_WIDTHS * options.decoder_width + KEPT_MLPS * mlp
    pruner = KEPT_WIDTHS * D + KEPT_MLPS * shape.language.mlp_width
    painted = 4 * 3 * options.pixels_per_token**2  # image, its two halves in the loss, and their gradient
    kept = pruner + branches * (options.decoder_layers * inner + painted)
    held = images * tokens * (number * D + 6 * options.pixels_per_token**2 + 4)
    in_memory = float(held) if held <= options.feature_memory_gb * 1e9 else 0.0
    states = ADAM_BYTES * trained_parameters(shape, options)
    return float(states + number * (tower_parameters(shape.vision) + batch * tokens * kept) + in_memory)


def planning_bytes(params: Params, shape: ModelShape) -> float:
    """Weights, the cache of a batch, and the widest activations of the tower and of the prefill."""
    number = FP32_BYTES if params.vla.name == "toy" else BF16_BYTES
    h, w = planned_grid(params.vla, shape)
    batch, N = params.plan_routes.batch_size, h * w
    context = N + params.profile_efficiency.prompt_tokens + answer_tokens(params)
    patches, vision = N * shape.vision.merge**2, shape.vision
    tower = patches * (4 * vision.width + 3 * vision.mlp_width)
    prefill = context * (4 * shape.language.width + 3 * shape.language.mlp_width)
    cached = context * _cache_numbers(shape.language)
    return float(number * (driver_parameters(shape) + batch * (cached + max(tower, prefill))))


def _cache_numbers(language: LanguageShape) -> int:
    return 2 * language.layers * language.key_value_heads * language.head_width
