"""Which tokens a training sample loses: subsets of every kind, drawn independently of any pruner that will be judged.

A driver that always saw all tokens is out of its depth when a region is missing, and then ranks random thinning first
whatever the pruners are worth (research/embedded.md 4). So it meets thinning, smooth fields, rows, blocks and mixtures.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

UNPRUNED_SHARE = 0.2
KEEP_RANGE = (0.2, 1.0)


def subset(grid: tuple[int, int], B: int, generator: Generator) -> Int[Tensor, "B K"]:
    """Ascending indices of kept tokens: one K for the batch, a kind of removal drawn for each sample."""
    N = grid[0] * grid[1]
    low, high = KEEP_RANGE
    draw = torch.rand(2, generator=generator)
    K = N if draw[0] < UNPRUNED_SHARE else max(1, round(N * float(low + (high - low) * draw[1])))
    scores = torch.stack([_scores(grid, generator) for _ in range(B)])
    return scores.topk(K, dim=1).indices.sort(dim=1).values


def _scores(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    """Random weights of the four kinds, mixed; a kind is left out of a mixture two times in three."""
    kinds = torch.stack(
        [_thinning(grid, generator), _field(grid, generator), _rows(grid, generator), _blocks(grid, generator)]
    )
    weights = torch.rand(4, generator=generator) * (torch.rand(4, generator=generator) < 1 / 3)
    chosen = int(torch.randint(4, (1,), generator=generator))
    weights[chosen] += 1
    return (weights[:, None] * kinds).sum(0) + 1e-3 * _thinning(grid, generator)


def _thinning(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    return torch.rand(grid[0] * grid[1], generator=generator)


def _field(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    coarse = torch.rand(1, 1, 3, 4, generator=generator)
    field = torch.nn.functional.interpolate(coarse, size=grid, mode="bilinear", align_corners=True)
    return field.flatten()


def _rows(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    """A ramp down or up the image, or rows in random order."""
    h, w = grid
    ramp = torch.linspace(0, 1, h)
    kind = int(torch.randint(3, (1,), generator=generator))
    values = (ramp, 1 - ramp, torch.rand(h, generator=generator))[kind]
    return values[:, None].expand(h, w).flatten()


def _blocks(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    h, w = grid
    coarse = torch.rand(1, 1, -(-h // 2), -(-w // 3), generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=(2, 3), mode="nearest")[0, 0, :h, :w].flatten()
