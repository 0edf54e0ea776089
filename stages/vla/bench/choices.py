"""Which of several ways is the fastest on this GPU: kernels of attention, and attention from one token."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import sdpa_kernel

from stages.vla.bench.medians import fastest
from stages.vla.bench.subject import Subject
from stages.vla.bench.timing import Call, Variants, timed
from stages.vla.fast.attention import ONE_ROW, Filled, OneRow, causal
from stages.vla.fast.choices import KERNELS
from stages.vla.fast.static_cache import rounded_up

TOLERANCE = 2e-2  # between two ways in bfloat16


def prompt_attention(subject: Subject, seconds: float) -> dict[str, Any]:
    """Causal attention over the whole prompt, by kernel; later tuned is the fastest."""
    shape, L = subject.shape, subject.length(0)
    d = shape.width // shape.heads
    query, key, value = (_drawn(subject, heads, L, d) for heads in (shape.heads, shape.kv_heads, shape.kv_heads))
    record = _by_kernel(lambda: causal(query, key, value, d**-0.5), seconds)
    subject.kernel = fastest(record, list(KERNELS))
    return record | {"taken": subject.kernel}


def image_attention(subject: Subject, seconds: float) -> dict[str, Any]:
    """Attention over all patches of the image, by kernel."""
    h, w = subject.sizes.grid
    attention = subject.visual.blocks[0].attn
    query, key, value = (_drawn(subject, attention.num_heads, 4 * h * w, attention.head_dim) for _ in range(3))
    return _by_kernel(lambda: F.scaled_dot_product_attention(query, key, value), seconds)


def one_row(subject: Subject, seconds: float) -> dict[str, Any]:
    """Attention of one new token over the static cache, at batch 1 and a large one; later tuned is the fastest."""
    record: dict[str, Any] = {}
    for B in (1, subject.sizes.batch):
        variants, differences = Variants(), dict[str, float]()
        answer = FromOneToken(subject, B)
        wanted = answer.by("products")
        for name in ONE_ROW:
            call = partial(answer.by, name)
            if variants.add(name, partial(_itself, call)):
                differences[name] = float((call().float() - wanted.float()).abs().max())
        for name in [name for name, difference in differences.items() if not difference <= TOLERANCE]:
            del variants.calls[name]
            variants.failed[name] = f"differs from products by {differences.pop(name):.3g}"
        found = timed(variants, seconds / 2)
        subject.one_row[B] = fastest(found, list(ONE_ROW)) or "products"
        record[f"batch_{B}"] = found | {"differences": differences, "taken": subject.one_row[B]}
    return record


class FromOneToken:
    """One layer's attention over a cache that is filled as far as the whole prompt reaches."""

    def __init__(self, subject: Subject, B: int) -> None:
        shape, L = subject.shape, subject.length(0)
        self.d = shape.width // shape.heads
        places = rounded_up(L + 1)
        self.query = _drawn(subject, shape.heads, 1, self.d, B)
        self.keys, self.values = (_drawn(subject, shape.kv_heads, places, self.d, B) for _ in range(2))
        self.filled = Filled.up_to(torch.tensor([L], device=subject.device), B * shape.kv_heads, places)

    def by(self, name: str) -> Tensor:
        """One of the ways."""
        way: OneRow = ONE_ROW[name]
        return way(self.query, self.keys, self.values, self.d**-0.5, self.filled)


def _drawn(subject: Subject, heads: int, L: int, d: int, B: int = 1) -> Tensor:
    return torch.randn(B, heads, L, d, device=subject.device, dtype=subject.dtype)


def _by_kernel(attend: Call, seconds: float) -> dict[str, Any]:
    variants = Variants()
    variants.add("as torch chooses", partial(_itself, attend))
    for kernel in KERNELS:
        variants.add(kernel, partial(_only, kernel, attend))
    return timed(variants, seconds)


def _itself(call: Call) -> Call:
    return call


def _only(kernel: str, attend: Call) -> Call:
    def call() -> object:
        with sdpa_kernel(KERNELS[kernel]):  # and no other: one that cannot do it is to say so
            return attend()

    return call
