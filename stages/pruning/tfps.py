"""T-FPS of Prune2Drive (CVPR 2026): farthest points of each camera's tokens, in hidden space.

DivPrune's greedy rule with chosen tokens masked, per image, after the first decoder layers. The published code searches
the cameras' ratios; here each keeps its share of K in proportion to its tokens. research/pruning.md 3.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from stages.backbone.tokens import shares
from stages.core.errors import ParamsError
from stages.pruning.base import Cut, Kept, TokenView
from stages.pruning.base import Pruner as Base
from stages.pruning.divprune import cosine_distance, greedy_order


@dataclass(frozen=True)
class Pruner(Base):
    """Farthest points of the tokens that decoder layer `layer` would read; 0 is before the language model."""

    layer: int = 1

    def __post_init__(self) -> None:
        if self.layer < 0:
            raise ParamsError(
                expected="a layer of at least 0 for tfps", got=f"{self.layer}", fix="edit pruners.tfps in params.yaml"
            )

    def cuts(self, N: int, K: int, layers: int) -> tuple[Cut, ...]:
        return (Cut(self.layer, K),)

    def select(self, view: TokenView, K: int) -> Kept:
        images = view.images()
        sizes = [image.tokens.shape[1] for image in images]
        chosen, start = [], 0
        for image, size, share in zip(images, sizes, shares(sizes, K), strict=True):
            chosen.append(_farthest(image, share) + start)
            start += size
        return Kept(torch.cat(chosen, dim=1))

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """As DivPrune, of one image; several cost less, for tokens of different images are not held together."""
        return 2 * N * N * D + K * N


def _farthest(image: TokenView, K: int) -> Int[Tensor, "B K"]:
    orders = [greedy_order(cosine_distance(tokens), K) for tokens in image.tokens]
    return torch.stack(orders).sort(dim=1).values
