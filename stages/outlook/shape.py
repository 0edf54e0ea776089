"""The driver's shape and its sizes in parameters, from a config.json alone: no weights are read."""

import json
from pathlib import Path

from stages.backbone.qwen import DecoderShape
from stages.core.errors import DataError
from stages.core.params import TrainDriver, Vla
from stages.efficiency.shapes import PAPER_MODEL, PAPER_MODEL_7B, ModelShape, VisionShape, model_shape
from stages.toy_driver.checkpoint import config
from stages.training.decoder import narrowed
from stages.training.options import TrainPruner


def driver_shape(vla: Vla) -> ModelShape:
    """Of the checkpoint; of a released driver that is not here, of its size. Raises DataError for another one."""
    path = Path(vla.checkpoint) / "config.json"
    if not path.is_file() and vla.name == "impromptu":
        path = PAPER_MODEL_7B if "7B" in vla.checkpoint else PAPER_MODEL
    try:
        return model_shape(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError) as error:
        then = "`git checkout models/driver`, or name a driver under vla.checkpoint in params.yaml"
        raise DataError(expected=f"the shape of the driver in {path}", got=repr(error), fix=then) from error


def driver_to_come(options: TrainDriver) -> ModelShape:
    """Of the small driver that train_driver makes anew, whatever lies in its place now."""
    said = config(options.vision.model_dump(), options.language.model_dump(), positions=512)
    tower = json.loads(PAPER_MODEL.read_bytes())["vision_config"]  # patches and merger are alike in all Qwen2.5-VL
    return model_shape(said | {"vision_config": tower | said["vision_config"]})


def grid_of(size_px: tuple[int, int], vision: VisionShape) -> tuple[int, int]:
    """Tokens (h, w) of an image of `size_px` (W, H)."""
    side_px = vision.patch_px * vision.merge
    return size_px[1] // side_px, size_px[0] // side_px


def layer_of(shape: ModelShape) -> DecoderShape:
    """One decoder layer; its rotary settings cost nothing and are any."""
    language = shape.language
    return DecoderShape(language.width, language.heads, language.key_value_heads, language.mlp_width, 1e6, (16, 24, 24))


def tower_parameters(vision: VisionShape) -> int:
    """Weights of the vision tower and its merger, without norms and biases."""
    merged = vision.width * vision.merge**2
    block = 4 * vision.width**2 + 3 * vision.width * vision.mlp_width
    return vision.patch_values * vision.width + vision.depth * block + merged * (merged + vision.out_width)


def driver_parameters(shape: ModelShape) -> int:
    """Tower, decoder layers, and the embedding, which is the head, too."""
    language = shape.language
    decoder = language.layers * language.layer_parameters + language.vocabulary * language.width
    return tower_parameters(shape.vision) + decoder


def trained_parameters(shape: ModelShape, options: TrainPruner) -> int:
    """ReconPruner and, where it rebuilds images, the decoder that it learns with."""
    if options.objective == "mask_prediction":
        return shape.pruner_parameters
    D, width = shape.language.width, options.decoder_width
    inner = narrowed(layer_of(shape), width)
    head_width = inner.width // inner.heads
    layer = 2 * width * head_width * (inner.heads + inner.kv_heads) + 3 * width * inner.mlp + 2 * width
    inward = D * width + width if width != D else 0
    head = (width + 1) * 3 * options.pixels_per_token**2
    return shape.pruner_parameters + options.decoder_layers * layer + inward + head
