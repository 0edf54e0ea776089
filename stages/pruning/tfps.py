"""T-FPS of Prune2Drive (CVPR 2026): farthest points of each camera's tokens, in hidden space.

DivPrune's greedy rule with chosen tokens masked, per image, after the first decoder layers. The published code searches
the cameras' ratios; here each keeps its share of K in proportion to its tokens. research/pruning.md 3.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stages.pruning import divprune
from stages.pruning.base import Cut, Kept, TokenView, check_option, choose
from stages.pruning.base import Pruner as Base


@dataclass(frozen=True)
class Pruner(Base):
    """Farthest points of the tokens that decoder layer `layer` would read; 0 is before the language model."""

    layer: int = 1

    def __post_init__(self) -> None:
        check_option(self.layer >= 0, "tfps", "a layer of at least 0", self.layer)

    def cuts(self, N: int, K: int, layers: int) -> tuple[Cut, ...]:
        return (Cut(self.layer, K),)

    def select(self, view: TokenView, K: int) -> Kept:
        return choose(divprune.Pruner(), view, K, per_image=True)

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """As DivPrune, of one image; several cost less, for tokens of different images are not held together."""
        return 2 * N * N * D + K * N
