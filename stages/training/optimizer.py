"""AdamW with a norm limit per parameter group, and the course of the learning rate."""

import math
from typing import Any

import torch
import torch.distributed as dist


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that clips each parameter group to a norm of its own before the step.

    Departure: under one common norm the pruner's straight-through gradient, thousands of times larger at first, leaves
    the decoder nothing (research/embedded.md 3.2). It is done here because DeepSpeed clips all groups by one norm.
    Under ZeRO 1 and 2 a rank holds a slice of each group (`partitioned`): squares are then summed over ranks.
    """

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float, partitioned: bool) -> None:
        """`groups` have a `name` and a `clip_norm` each; None does not clip."""
        super().__init__(groups, weight_decay=weight_decay)
        self.partitioned = partitioned
        self.norms: dict[str, torch.Tensor] = {}  # of each group's gradient in the last step, before clipping

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Clip, then AdamW's step. ZeRO calls this once per group, with the other groups hidden."""
        for group in self.param_groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
            if self.partitioned:
                dist.all_reduce(squares)
            norm = squares.sqrt()
            if group["clip_norm"] is not None:
                for gradient in gradients:
                    gradient.mul_((group["clip_norm"] / (norm + 1e-6)).clamp(max=1.0))
            self.norms[group["name"]] = norm
        super().step(closure)


def rate_share(step: int, steps: int, warmup_steps: int, starts_at: int = 0) -> float:
    """Share of the peak learning rate at `step`: from `starts_at` a linear warm-up, then half a cosine towards 0."""
    since = step - starts_at
    if since < 0:
        return 0.0
    if since < warmup_steps:
        return (since + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (since - warmup_steps) / max(1, steps - starts_at - warmup_steps)))
