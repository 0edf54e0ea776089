"""VisPruner (Zhang et al., ICCV 2025): the tokens that the vision tower attends to, and of the rest the least alike.

Written from the maths in research/pruning.md 1.3. Qwen2.5-VL has no CLS token: importance is the attention a token
receives in the last full-attention block, as the authors advise (issue 1 of their repository). Similarity is that of
the tokens the language model reads, as in LightCompress' port; the published code for LLaVA takes the tower's features
before the projector. The order in which the rest is thinned out depends on rounding: same hardware, same set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.pruning.base import Kept, TokenView, check_option
from stages.pruning.base import Pruner as Base
from stages.pruning.view import vision_of

STEP = 8  # tokens that leave in one round


def important_count(N: int, K: int, ratio: int | float) -> int:
    """How many of K are chosen by attention: their share, and one more where the residual would be odd.

    The published code pairs even with odd ranks of the residual and raises when these are not equally many, as at each
    ratio of 57 x 57 tokens; LightCompress takes one more important token, and so do we.
    """
    count = int(K * ratio)
    return count + 1 if (N - count) % 2 and count < K else count


def least_alike(features: Float[Tensor, "R D"], count: int) -> Int[Tensor, " count"]:
    """Rows that remain when those most like another one leave, in the order in which the rounds end.

    `features` stand in attention order. In each round even ranks are held against odd ones; the STEP even ones with the
    closest odd one leave, and the next round begins with the even ones left, most alike first.
    """
    R = features.shape[0]
    left = torch.arange(R, device=features.device)
    if count in (0, R):
        return left[:count]
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    similarity = unit @ unit.T
    while left.shape[0] > count:
        leave = min(STEP, left.shape[0] - count, left.shape[0] // 2)
        even, odd = left[::2], left[1::2]
        closest = similarity[even[:, None], odd].amax(dim=1)
        alike = closest.sort(descending=True, stable=True).indices
        left = torch.cat([even[alike[leave:]], odd])
    return left


def choose(
    importance: Float[Tensor, " N"], features: Float[Tensor, "N D"], K: int, ratio: int | float
) -> tuple[Int[Tensor, " I"], Int[Tensor, " V"]]:
    """The important tokens in attention order and the diverse ones in the order of their rounds; together K."""
    order = importance.float().sort(descending=True, stable=True).indices
    count = important_count(importance.shape[0], K, ratio)
    residual = order[count:]
    return order[:count], residual[least_alike(features[residual], K - count)]


@dataclass(frozen=True)
class Pruner(Base):
    """`important_ratio` of the kept tokens by attention, the others by how little they are alike."""

    important_ratio: int | float = 0.5
    needs_vision: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ratio = self.important_ratio
        check_option(0 <= ratio <= 1, "vispruner", "an important_ratio from 0 to 1", ratio)

    def select(self, view: TokenView, K: int) -> Kept:
        importance = vision_of(view).importance
        rows = zip(importance, view.tokens, strict=True)
        chosen = torch.stack([torch.cat(choose(a, x, K, self.important_ratio)) for a, x in rows])
        return Kept(chosen.sort(dim=1).values, finite=torch.isfinite(importance).all())

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """The similarity of every pair of tokens that are not important."""
        residual = N - important_count(N, K, self.important_ratio)
        diverse = K - (N - residual)
        return 2 * residual * residual * D if 0 < diverse < residual else 0
