"""A hard choice that gradients pass through (Eq. 3-5)."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor


def keep_mask(scores: Float[Tensor, "B N"], backward: Literal["sigmoid", "identity"]) -> Float[Tensor, "B N"]:
    """1 where a token is kept (S > 0, Eq. 3), else 0; exactly so in the forward pass, for finite scores.

    Departure: Eq. 4 as printed, M + stop_grad(1 - M), is 1 everywhere in the forward pass and has no gradient in S.
    Here the forward value is the hard mask and the gradient is that of a continuous stand-in: the sigmoid of S, or S
    itself (`identity`, which lets scores grow without bound: research/embedded.md 3.5). The bracket is exactly 0 in
    the forward pass; `hard - soft.detach() + soft` would round to something else than 0 or 1 once S is large.
    """
    hard = (scores > 0).to(scores.dtype)
    soft = scores.sigmoid() if backward == "sigmoid" else scores
    return hard + (soft - soft.detach())
