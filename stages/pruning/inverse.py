"""The lower reference: keep exactly what the oracle drops first. A driver that does not mind is blind."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from stages.pruning.base import TokenView
from stages.pruning.oracle import Pruner as Oracle


@dataclass(frozen=True)
class Pruner(Oracle):
    """The oracle's ranking, reversed."""

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        return -super().score_image(view)
