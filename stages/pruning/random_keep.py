"""Keep tokens at random, the same ones for the same image and seed whatever the batch."""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stages.pruning.base import ImageScoringPruner, TokenView


def random_scores(N: int, key: str, seed: int) -> Float[Tensor, " N"]:
    """Uniform scores drawn from the image's name and the seed."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(N, generator=generator)


@dataclass(frozen=True)
class Pruner(ImageScoringPruner):
    """Uniformly random thinning."""

    seed: int

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        N = view.tokens.shape[1]
        return torch.stack([random_scores(N, key, self.seed) for key in view.keys]).to(view.tokens.device)
