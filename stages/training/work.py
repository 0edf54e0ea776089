"""What training costs: FLOPs of an image in closed form, and the hours that a measured pace makes of them.

2 FLOPs per multiply-add, elementwise work and the loss not counted, as `torch.utils.flop_counter` counts, which the
tests hold this against at the true shapes (research/efficiency.md 4).
"""

from dataclasses import asdict, dataclass, replace

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


@dataclass(frozen=True)
class Pace:
    """What was measured on one process before the run."""

    images: int
    encode_s: float  # reading them, and the frozen tower
    learn_s: float  # forward and backward passes

    @property
    def seconds(self) -> float:
        return self.encode_s + self.learn_s


@dataclass(frozen=True)
class Projection:
    """How long a run will take at a measured pace, if its processes do not slow one another.

    Not in it: reading tokens back from a cache, pictures, checkpoints.
    """

    flops: int  # of one image in one step: `Work.done`
    pace: Pace
    steps: int  # that are left
    batch_size: int  # images a step over all processes
    world: int  # processes
    encodes: int | None  # images that a process encodes once, before the first step; None: each at each draw
    evaluated: int = 0  # images that the first process alone paints forward, over all epochs that are left

    def after(self, step: int) -> "Projection":
        """What is left of it after `step` steps."""
        left = self.steps - step
        return replace(self, steps=left, evaluated=self.evaluated * left // self.steps)

    @property
    def step_images_per_s(self) -> float:
        """Of one process, once it trains."""
        return self.pace.images / (self.pace.learn_s if self.encodes is not None else self.pace.seconds)

    @property
    def encode_hours(self) -> float:
        """Before the first step."""
        return (self.encodes or 0) * self.pace.encode_s / self.pace.images / 3600

    @property
    def hours(self) -> float:
        """From here to the last step."""
        learnt_s = self.steps * self.batch_size / (self.world * self.step_images_per_s)
        return self.encode_hours + (learnt_s + self._evaluated_s) / 3600

    @property
    def _evaluated_s(self) -> float:
        """A forward pass is a third of a step's work (TRAINED)."""
        drawn_s = self.pace.encode_s if self.encodes is None else 0.0
        return self.evaluated * (self.pace.learn_s / TRAINED + drawn_s) / self.pace.images

    @property
    def device_hours(self) -> float:
        """The same over all processes; GPU-hours where each has one."""
        return self.hours * self.world

    @property
    def tera_flops_per_s(self) -> float:
        """Reached by one process."""
        return self.flops * self.step_images_per_s / 1e12

    def __str__(self) -> str:
        ranks = f"{self.world} processes ({_time(self.device_hours)} in all)" if self.world > 1 else "1 process"
        first = f"{self.encodes} images to encode first, about {_time(self.encode_hours)}; " if self.encodes else ""
        return (
            f"{first}{self.steps} steps x {self.batch_size} images, {_flops(self.flops)} an image; "
            f"{_three_digits(self.step_images_per_s)} images/s measured over {self.pace.seconds:.1f} s "
            f"({_three_digits(self.tera_flops_per_s)} TFLOP/s): about {_time(self.hours)} from here on {ranks}"
        )


def _flops(count: int) -> str:
    return f"{_three_digits(count / 1e12)} TFLOP" if count >= 1e12 else f"{_three_digits(count / 1e9)} GFLOP"


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{_three_digits(hours)} h"
    return f"{_three_digits(60 * hours)} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"


def _three_digits(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
