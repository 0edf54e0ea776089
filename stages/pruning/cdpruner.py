"""CDPruner (Zhang et al., NeurIPS 2025): tokens that differ from each other and are relevant to the text, by a DPP.

Greedy MAP of a determinantal point process (Chen et al., NeurIPS 2018) with the cosine kernel of the tokens, weighted
by their relevance. The published code is for LLaVA, whose relevance comes from CLIP's image and text embeddings. Its
Qwen2.5-VL port is unpublished: here the visual tokens and the embeddings of the text after the images take their
places, which is our choice. The published code scales relevance over the whole batch; we scale each prompt's by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.pruning.base import Kept, TokenView
from stages.pruning.base import Pruner as Base
from stages.pruning.view import text_after

SPANNED = 1e-6  # a token of which the chosen ones leave less than this share is noise in fp32


def relevance(image: Float[Tensor, "B N C"], text: Float[Tensor, "M C"]) -> Float[Tensor, "B N"]:
    """Mean cosine to the M text embeddings, negated as published, scaled to (0, 1] over all that is given; fp32."""
    unit_image = torch.nn.functional.normalize(image.float(), dim=-1)
    unit_text = torch.nn.functional.normalize(text.float(), dim=-1)
    distance = -(unit_image @ unit_text.T).mean(dim=-1)
    low, high = distance.aminmax()
    # Where all are alike, all count fully; NaN is not alike, and stays
    return torch.where(high == low, 1, (distance - low + 1e-6) / (high - low))


def kernel(features: Float[Tensor, "N D"], weights: Float[Tensor, " N"]) -> Float[Tensor, "N N"]:
    """Cosine similarity of every pair, weighted by the relevance of both, in fp32."""
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    return weights[:, None] * (unit @ unit.T) * weights[None]


def greedy_map(kernel: Float[Tensor, "N N"], K: int) -> Int[Tensor, " K"]:
    """The first K tokens of the greedy MAP, in the order they are chosen; O(K^2 N).

    Each step takes the token with the largest part outside the span of the chosen ones, which is kept up to date by
    orthogonalising the new one against them. Where nothing is left outside (duplicates, K above the rank), the rest
    follows in reading order.
    """
    N, whole = kernel.shape[0], kernel.diagonal()
    order = torch.zeros(K, dtype=torch.int64, device=kernel.device)
    taken = torch.zeros(N, dtype=torch.bool, device=kernel.device)
    directions = kernel.new_zeros(K, N)
    outside = whole
    for step in range(K):
        # Tensors of one number index without telling the host which
        chosen = outside.masked_fill(taken, -torch.inf).argmax(dim=0, keepdim=True)
        order[step : step + 1] = chosen
        taken.index_fill_(0, chosen, True)
        known, own = directions[:step], outside.index_select(0, chosen)
        rest = kernel.index_select(0, chosen) - known.index_select(1, chosen).T @ known
        direction = torch.where(own > 0, rest / own.sqrt(), 0)
        directions[step : step + 1] = direction
        outside = outside - direction[0].square()
        outside = torch.where(outside < SPANNED * whole, 0, outside)
    return order


@dataclass(frozen=True)
class Pruner(Base):
    """Diverse and relevant tokens; a smaller K is a prefix of a larger one."""

    def select(self, view: TokenView, K: int) -> Kept:
        text = text_after(view)
        weights = torch.cat([relevance(x[None], t) for x, t in zip(view.tokens, text, strict=True)])
        rows = zip(view.tokens, weights, strict=True)
        orders = torch.stack([greedy_map(kernel(x, w), K) for x, w in rows])
        return Kept(orders.sort(dim=1).values, finite=torch.isfinite(weights).all())

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """Relevance to L text tokens, the similarity of every pair, and at each step the earlier ones over N tokens."""
        return 2 * N * L * D + 2 * N * N * D + K * (K - 1) * N
