"""Keep the lower rows, looking at nothing: the honest floor in a forward camera, where low in the image means road.

In the drawn world the row alone ranks road pixels with an AUC of .99 (research/embedded.md 1), so a method that does
not beat this one has not seen anything.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stages.pruning.base import ImageScoringPruner, TokenView


def row_scores(grid: tuple[int, int], B: int, device: torch.device | None = None) -> Float[Tensor, "B N"]:
    """The row of each token, counted from the top; within a row, tokens near the middle column come first."""
    h, w = grid
    off_centre = (torch.arange(w, device=device) - (w - 1) / 2).abs() / w  # < 0.5, so that it only orders a row
    return (torch.arange(h, device=device)[:, None] - off_centre[None]).flatten().float().expand(B, -1)


@dataclass(frozen=True)
class Pruner(ImageScoringPruner):
    """Lower rows first."""

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        return row_scores(view.grid, view.tokens.shape[0], view.tokens.device)
