"""The arithmetic between the matrix products: norms, rotation, gate. Plain, or each compiled into one kernel.

At 3,349 tokens a pass over the hidden states costs little beside a product; at one token, or over the 12,996 patches of
an image, what counts is how many passes there are. The products stay cuBLAS's and attention stays SDPA's either way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.rows import rotate

SHAPES = 128  # that one function is compiled for: ratios, batch sizes, the tower; by default the ninth is refused


def norm(hidden: Float[Tensor, "*rows D"], weight: Float[Tensor, " D"], eps: float) -> Float[Tensor, "*rows D"]:
    """Root mean square normalisation (Zhang and Sennrich), the mean in fp32."""
    return F.rms_norm(hidden, weight.shape, weight, eps)


def add_norm(
    hidden: Float[Tensor, "*rows D"], update: Float[Tensor, "*rows D"], weight: Float[Tensor, " D"], eps: float
) -> tuple[Float[Tensor, "*rows D"], Float[Tensor, "*rows D"]]:
    """The residual stream with `update`, and its norm."""
    added = hidden + update
    return added, F.rms_norm(added, weight.shape, weight, eps)


def turn(
    vectors: Float[Tensor, "*rows heads d"], cos: Float[Tensor, "*#rows d"], sin: Float[Tensor, "*#rows d"]
) -> Float[Tensor, "*rows heads d"]:
    """Rotary embedding of all heads, in the precision of the angles."""
    return rotate(vectors.to(cos.dtype), cos[..., None, :], sin[..., None, :]).to(vectors.dtype)


def gate(both: Float[Tensor, "*rows M2"]) -> Float[Tensor, "*rows M"]:
    """SwiGLU (Shazeer): SiLU of the first half times the second."""
    first, second = both.chunk(2, dim=-1)
    return F.silu(first) * second


@dataclass(frozen=True)
class Pointwise:
    """The four functions, in one of their implementations."""

    norm: Callable[..., Tensor] = norm
    add_norm: Callable[..., tuple[Tensor, Tensor]] = add_norm
    turn: Callable[..., Tensor] = turn
    gate: Callable[..., Tensor] = gate


@cache
def compiled(backend: str = "inductor") -> Pointwise:
    """Each function as one kernel; it is made at the first call with a shape, which takes seconds."""
    from torch._dynamo import config  # seconds, which nobody should pay who compiles nothing

    config.recompile_limit = max(config.recompile_limit, SHAPES)

    def one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
        # dynamic=False: a graph is captured for one shape, and its kernels should be for that shape
        return torch.compile(function, backend=backend, dynamic=False, fullgraph=True)

    return Pointwise(one_kernel(norm), one_kernel(add_norm), one_kernel(turn), one_kernel(gate))


PLAIN = Pointwise()
