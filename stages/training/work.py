"""The FLOPs of training, per image and in closed form.

2 FLOPs per multiply-add, elementwise work and the loss not counted, as `torch.utils.flop_counter` counts, which the
tests compare this with at the true shapes (research/efficiency.md 4).
"""

from dataclasses import asdict, dataclass

from stages.backbone.qwen import DecoderShape
from stages.efficiency.flops import decoder_layer_flops, prompt_flops
from stages.efficiency.shapes import LanguageShape, ModelShape, VisionShape
from stages.training.decoder import narrowed
from stages.training.options import TrainPruner

# Forward, gradient of the weights, gradient of the input. No product goes without the last one: what the pruner's layer
# reads holds the learnt query and has passed a learnt norm, and what the decoder reads was multiplied by the keep mask,
# through which the scores learn. Of attention: two products forward, four backward.
TRAINED = 3


@dataclass(frozen=True)
class Work:
    """FLOPs of one image in one training step, by part; the trained parts forward and backward."""

    vision: int  # the frozen tower, forward; 0 where the tokens are ready
    pruner: int
    inward: int  # projection to the decoder's width, where that is another one
    decoder: int  # layers, over all branches
    head: int
    recomputed: int  # the decoder's layers a second time in the backward pass, where activations are not kept

    @property
    def needed(self) -> int:
        """All but what is computed twice: the numerator of model FLOPs utilisation (MFU)."""
        return self.done - self.recomputed

    @property
    def done(self) -> int:
        """All that the machine computes."""
        return sum(asdict(self).values())


def training_flops(
    layer: DecoderShape, vision: VisionShape | None, grid: tuple[int, int], options: TrainPruner
) -> Work:
    """The work of an image of `grid` (h, w) tokens; `layer` is the model's decoder layer, of which the pruner is made.

    `vision` is the tower that encodes the image, None where its tokens are ready. Raises ParamsError when
    `options.decoder_width` is not a whole number of heads.
    """
    N, D, width = grid[0] * grid[1], layer.width, options.decoder_width
    tokens = N * _branches(options)
    passes = _branches(options) * options.decoder_layers
    inner = narrowed(layer, width) if passes else layer
    return Work(
        vision=_vision_flops(vision, layer, grid) if vision else 0,
        pruner=TRAINED * (_layer_flops(layer, N + 1) + 2 * N * D),
        inward=TRAINED * 2 * tokens * D * width if width != D else 0,
        decoder=TRAINED * passes * _layer_flops(inner, N),
        head=TRAINED * 2 * tokens * width * 3 * options.pixels_per_token**2,
        recomputed=passes * _again_flops(inner, N) if options.recompute else 0,
    )


def _branches(options: TrainPruner) -> int:
    """How often an image is rebuilt: from its kept and its dropped tokens, from the kept alone, or not at all."""
    if options.objective == "mask_prediction":
        return 0
    return 2 if options.adversarial else 1


def _layer_flops(layer: DecoderShape, n: int) -> int:
    return decoder_layer_flops(_language(layer))(n)


def _again_flops(layer: DecoderShape, n: int) -> int:
    """A layer up to its last product: torch stops to recompute when it has what the backward pass asks for."""
    return _layer_flops(layer, n) - 2 * n * layer.width * layer.mlp


def _language(layer: DecoderShape) -> LanguageShape:
    """One such layer as a language model without vocabulary."""
    head_width = layer.width // layer.heads
    return LanguageShape(1, layer.width, layer.heads, layer.kv_heads, head_width, layer.mlp, vocabulary=0)


def _vision_flops(vision: VisionShape, layer: DecoderShape, grid: tuple[int, int]) -> int:
    return prompt_flops(ModelShape(vision, _language(layer)), grid, 0, 0).vision
