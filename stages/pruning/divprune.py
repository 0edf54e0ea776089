"""DivPrune (Alvar et al., CVPR 2025): the tokens whose smallest cosine distance to each other is largest, greedily.

Written from the maths in research/pruning.md 1.4. Two differences from the published code: selected tokens are masked,
so that exact duplicates never repeat an index; and a running minimum makes it O(K N) instead of O(K^2 N).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.pruning.base import Kept, TokenView
from stages.pruning.base import Pruner as Base


def cosine_distance(tokens: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """1 - cosine similarity of every pair, in fp32 (in bf16 the many ties decide the order)."""
    unit = torch.nn.functional.normalize(tokens.float(), dim=1)
    return 1 - unit @ unit.T


def greedy_order(distance: Float[Tensor, "N N"], K: int) -> Int[Tensor, " K"]:
    """The first K tokens of max-min selection, in the order they are chosen.

    The first is the one farthest from its nearest neighbour, which is the second smallest entry of its column (the
    smallest is its distance to itself); each next one is farthest from all chosen so far. Ties go to the lower index.
    """
    N = distance.shape[0]
    # Tensors of one number, not of none: those index without telling the host which, which would wait for the device
    # Rows for columns, the distances being symmetric; topk takes a ninth of kthvalue's time
    neighbours = distance.topk(min(2, N), dim=1, largest=False).values
    current = neighbours[:, -1].argmax(dim=0, keepdim=True)
    order = torch.empty(K, dtype=torch.int64, device=distance.device)
    nearest = torch.full((N,), torch.inf, device=distance.device)
    for step in range(K):
        order[step : step + 1] = current
        nearest = torch.minimum(nearest, distance.index_select(0, current)[0])
        nearest.index_fill_(0, current, -torch.inf)
        current = nearest.argmax(dim=0, keepdim=True)
    return order


@dataclass(frozen=True)
class Pruner(Base):
    """Max-min diversity; a smaller K is a prefix of a larger one, so one greedy run serves all ratios."""

    def select(self, view: TokenView, K: int) -> Kept:
        return self.select_each(view, [K])[0]

    def select_each(self, view: TokenView, counts: Sequence[int]) -> list[Kept]:
        orders = torch.stack([greedy_order(cosine_distance(tokens), max(counts)) for tokens in view.tokens])
        return [Kept(orders[:, :K].sort(dim=1).values) for K in counts]

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """The similarity of every pair, and one running minimum over N tokens for each kept one."""
        return 2 * N * N * D + K * N
