"""VisionZip (Yang et al., CVPR 2025): the tokens that the vision tower attends to, and merged ones for the others.

Written from research/pruning.md 3 and the outputs of the published code (visionzip/clip_encoder.py), whose rules we
keep: targets stand at equal steps among the others; a merged token is its target plus the mean of those assigned to it.
There importance is the CLS token's attention and the metric its block's keys; of Qwen2.5-VL, which has no CLS token,
both come from the last full-attention block. A merged token takes the position ids of its target.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.tokens import gather_positions
from stages.pruning.base import Kept, TokenView, check_option, everything
from stages.pruning.base import Pruner as Base
from stages.pruning.view import vision_of


def dominant(importance: Float[Tensor, "B N"], count: int) -> Int[Tensor, "B count"]:
    """The most important tokens, best first; of equal ones the earlier first."""
    return importance.float().sort(dim=1, descending=True, stable=True).indices[:, :count]


def others(chosen: Int[Tensor, "B K"], N: int) -> Int[Tensor, "B R"]:
    """The N - K tokens that are not chosen, in reading order."""
    taken = torch.zeros(chosen.shape[0], N, dtype=torch.uint8, device=chosen.device).scatter(1, chosen, 1)
    return taken.sort(dim=1, stable=True).indices[:, : N - chosen.shape[1]]


def contextual_targets(rest: Int[Tensor, "B R"], count: int) -> Int[Tensor, "B count"]:
    """`count` of the tokens that are not dominant, at equal steps from the first."""
    return rest[:, :: max(1, rest.shape[1] // count)][:, :count]


def merge(
    metric: Float[Tensor, "N C"], tokens: Float[Tensor, "N D"], targets: Int[Tensor, " M"], rest: Int[Tensor, " R"]
) -> Float[Tensor, "M D"]:
    """Each target plus the mean of those of `rest` that are nearest to it by cosine of `metric`; fp32."""
    unit, x = torch.nn.functional.normalize(metric.float(), dim=1), tokens.float()
    nearest = (unit[rest] @ unit[targets].T).argmax(dim=1)
    member = (nearest[None] == torch.arange(targets.shape[0], device=x.device)[:, None]).float()
    return x[targets] + member @ x[rest] / member.sum(dim=1, keepdim=True).clamp_min(1)


@dataclass(frozen=True)
class Pruner(Base):
    """K tokens, of which `contextual_share` are merged ones; as published, 10 of 64."""

    contextual_share: int | float = 0.15625
    needs_vision: ClassVar[bool] = True

    def __post_init__(self) -> None:
        share = self.contextual_share
        check_option(0 <= share < 1, "visionzip", "a contextual_share from 0 to below 1", share)

    def select(self, view: TokenView, K: int) -> Kept:
        N, contextual = view.tokens.shape[1], math.floor(K * self.contextual_share)
        if K == N:
            return everything(view)
        facts = vision_of(view)
        kept = dominant(facts.importance, K - contextual)
        indices, finite = kept.sort(dim=1).values, torch.isfinite(facts.importance).all()
        if not contextual:
            return Kept(indices, finite=finite)
        targets = contextual_targets(others(kept, N), contextual)
        rest = others(torch.cat([kept, targets], dim=1), N)
        rows = zip(facts.features, view.tokens, targets, rest, strict=True)
        merged = torch.stack([merge(*row) for row in rows]).to(view.tokens.dtype)
        finite = finite & torch.isfinite(facts.features).all()
        return Kept(indices, merged, gather_positions(view.positions, targets), finite)

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """Similarity of the other tokens to the targets, as if the metric were as wide as a token, and the means."""
        contextual = math.floor(K * self.contextual_share) if K < N else 0
        return 4 * (N - K) * contextual * D
