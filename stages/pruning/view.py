"""What a pruner may see of the visual tokens of a batch of prompts, wherever in the model it stands."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.attention import VisionFacts
from stages.core.errors import DataError

Grid = tuple[int, int]  # (h, w) merged tokens of an image


@dataclass(frozen=True)
class TokenView:
    """All that a pruner may see of a batch of prompts whose images have the same sizes."""

    tokens: Float[Tensor, "B N D"]  # visual tokens as the next layer would read them, image by image, reading order
    grids: tuple[Grid, ...]  # of the images of each prompt; before the first cut their h * w add up to N
    positions: Int[Tensor, "3 B N"]  # M-RoPE ids of the visual tokens
    keys: tuple[str, ...]  # B sample names: what randomness is drawn from, so that a batch equals its singles
    encoder: str  # fingerprint of the vision encoder that made the tokens
    sources: tuple[str, ...] = ()  # sample_data tokens: where references find their truth; no method may
    foreground: Float[Tensor, "B N"] | None = None  # share of each token under the ground-truth mask, for references
    vision: VisionFacts | None = None  # where the pruner's class says `needs_vision`
    text: Float[Tensor, "B R D"] | None = None  # embeddings of the text after the last image, before the first layer
    inputs: Float[Tensor, "B M D"] | None = None  # inside: all visual tokens as they were before the first layer
    # Inside: post-softmax attention of the last n prompt tokens over the N visual tokens, in the layer just run
    attention: Callable[[int], Float[Tensor, "B heads n N"]] | None = None

    @property
    def grid(self) -> Grid:
        """The grid of the only image. Raises DataError when there are several."""
        if len(self.grids) != 1:
            fix = "go through TokenView.images()"
            raise DataError(expected="one image in a prompt", got=f"{len(self.grids)}", fix=fix)
        return self.grids[0]

    def images(self) -> "list[TokenView]":
        """A view of each image alone, in order; only before the first cut, while the images are whole."""
        if len(self.grids) == 1:
            return [self]
        parts, end = [], 0
        for i, (h, w) in enumerate(self.grids):
            start, end = end, end + h * w
            parts.append(self._image(i, slice(start, end)))
        return parts

    def _image(self, i: int, part: slice) -> "TokenView":
        vision, attention = self.vision, self.attention
        return replace(
            self,
            tokens=self.tokens[:, part],
            grids=(self.grids[i],),
            positions=self.positions[:, :, part],
            # One name for each image of a prompt, so that random choices differ between cameras
            keys=tuple(f"{key}/{i}" for key in self.keys),
            sources=self.sources[i :: len(self.grids)],
            foreground=None if self.foreground is None else self.foreground[:, part],
            vision=None if vision is None else VisionFacts(vision.importance[:, part], vision.features[:, part]),
            inputs=None if self.inputs is None else self.inputs[:, part],
            attention=None if attention is None else lambda n: attention(n)[..., part],
        )


def attention_rows(view: TokenView, rows: int) -> Float[Tensor, "B heads n N"]:
    """Attention of the last `rows` prompt tokens in the layer just run. Raises DataError before the first layer."""
    if view.attention is None:
        raise DataError(
            expected="the attention of a decoder layer, of which this method chooses",
            got="visual tokens that no layer has read yet",
            fix="cut inside the language model: `layer` of at least 1 under pruners in params.yaml",
        )
    return view.attention(rows)


def text_after(view: TokenView) -> Float[Tensor, "B R D"]:
    """Embeddings of the text after the last image. Raises DataError when there is none."""
    if view.text is None or not view.text.shape[1]:
        raise DataError(
            expected="text after the last image, by which this method chooses",
            got="none",
            fix="put the question behind the images",
        )
    return view.text


def vision_of(view: TokenView) -> VisionFacts:
    """What the tower knows of the tokens. Raises DataError when it was not gathered."""
    if view.vision is None:
        raise DataError(
            expected="the vision tower's attention and features of each token",
            got="visual tokens alone",
            fix="take a model whose driver gathers them (vla.name in params.yaml), or another pruner",
        )
    return view.vision
