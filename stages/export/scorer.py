"""ReconPruner as one function of tensors, which graph compilers can take: the grid is an input, not a Python tuple."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stages.pruning.recon import ReconPruner


class Scorer(nn.Module):
    """Saliency of visual tokens, for any number of images and tokens; choosing the top K is left to the caller."""

    def __init__(self, pruner: ReconPruner) -> None:
        super().__init__()
        self.pruner = pruner

    def forward(self, tokens: Float[Tensor, "B N D"], columns: Int[Tensor, ""]) -> Float[Tensor, "B N"]:
        """Scores of `tokens` in reading order on a grid of `columns` tokens across; higher is kept.

        As `ReconPruner.forward`, whose position ids it makes by arithmetic on N: M-RoPE (t, h, w), counted from 1.
        """
        B, N, _ = tokens.shape
        places = torch.arange(N, device=tokens.device)
        rows = torch.div(places, columns, rounding_mode="floor")
        ids = torch.stack([torch.zeros_like(rows), rows, places - rows * columns]) + 1
        ids = torch.cat([torch.zeros_like(ids[:, :1]), ids], dim=1)[:, None].expand(3, B, N + 1)
        query = self.pruner.query.expand(B, 1, -1)
        fused = self.pruner.layer(torch.cat([query, self.pruner.standardise(tokens)], dim=1), ids)
        return self.pruner.scorer(fused[:, 1:] * fused[:, :1]).squeeze(-1)
