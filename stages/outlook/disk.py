"""The room that a stage writes into: its outs twice (in the checkout and in DVC's cache), and what it works in."""

from collections.abc import Mapping

from stages.core.journal.counts import CAMERAS
from stages.core.journal.graph import Stage
from stages.core.params import Params
from stages.efficiency.shapes import ModelShape
from stages.outlook.shape import grid_of, trained_parameters

COPIES = 2
FP32_BYTES, BF16_BYTES = 4, 2


def outs_bytes(then_bytes: int, share: float) -> float:
    """Outs of `share` times the work that made `then_bytes`, both copies."""
    return float(COPIES * then_bytes * share)


def scratch_bytes(stage: Stage, params: Params, frames: Mapping[str, int | None], shape: ModelShape) -> float:
    """Under runs/, in closed form: visual tokens of all images, and checkpoints with both moments of each weight."""
    if stage.module != "stages.train_pruner":
        return 0.0
    options = params.training(stage.cell)
    number = BF16_BYTES if options.bf16 else FP32_BYTES
    h, w = grid_of(options.size_px, shape.vision)
    images = CAMERAS * (frames["train"] or 0) if options.token_cache else 0
    states = 3 * FP32_BYTES * trained_parameters(shape, options)
    return float(images * h * w * shape.language.width * number + (options.checkpoints_kept + 2) * states)
