"""ReconPruner (Eq. 1-2): a learnt query meets all tokens in a decoder layer; a token scores by how it fits it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.backbone.qwen import DecoderShape, DecoderStack
from stages.backbone.tokens import image_positions
from stages.core.errors import DataError
from stages.pruning import checkpoint
from stages.pruning.base import ImageScoringPruner, TokenView

MADE_BY = "dvc repro train_pruner"


class ReconPruner(nn.Module):
    """One Qwen2.5-VL decoder layer over [Q, V] with full attention, and a linear scorer: 77,081,089 parameters at 3B.

    Departure: tokens are standardised per dimension by stored statistics of the training images (a tower has dimensions
    that outweigh all others). Where the paper is silent: the query stands at M-RoPE position 0 and the image's ids
    count from 1, wherever the image stands in the prompt, so that scores carry over to other grids and prompts.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, shape.width))
        self.layer = DecoderStack(shape, 1)
        self.scorer = nn.Linear(shape.width, 1)
        nn.init.zeros_(self.scorer.bias)
        self.register_buffer("mean", torch.zeros(shape.width))
        self.register_buffer("std", torch.ones(shape.width))

    def set_statistics(self, tokens: Float[Tensor, "M D"]) -> None:
        """Take mean and deviation of the tokens of training images."""
        self.mean.copy_(tokens.mean(dim=0))
        self.std.copy_(tokens.std(dim=0).clamp_min(1e-6))

    def standardise(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Tokens with mean 0 and deviation 1 in each dimension."""
        return (tokens - self.mean) / self.std

    def score(self, standard: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N"]:
        """S = Scorer(V* . Q*) of standardised tokens; higher is kept."""
        B = standard.shape[0]
        query = self.query.to(standard).expand(B, 1, -1)
        positions = image_positions(grid, B, standard.device) + 1
        positions = torch.cat([torch.zeros_like(positions[:, :, :1]), positions], dim=2)
        fused = self.layer(torch.cat([query, standard], dim=1), positions)
        return self.scorer(fused[:, 1:] * fused[:, :1]).squeeze(-1)

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N"]:
        """Scores of tokens as the vision tower gives them."""
        return self.score(self.standardise(tokens), grid)


def method_of(config: dict[str, Any]) -> str:
    """Which method of this folder weights are, by what their config.json says they were trained for (Table 2)."""
    if config.get("objective", "reconstruction") == "mask_prediction":
        return "mask_prediction"
    return "recon" if config.get("adversarial", True) else "foreground_only"


def build(config: dict[str, Any]) -> ReconPruner:
    """A pruner of the shape that `config` names. Raises DataError when its fields are not those of a layer's shape."""
    try:
        shape = DecoderShape(**{**config["layer"], "mrope_section": tuple(config["layer"]["mrope_section"])})
        return ReconPruner(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            expected="a `layer` of decoder shapes in config.json", got=repr(error), fix=f"run `{MADE_BY}`"
        ) from error


@dataclass(frozen=True)
class Pruner(ImageScoringPruner):
    """ReconPruner from the folder that train_pruner writes."""

    checkpoint: str
    checks_encoder: ClassVar[bool] = True
    method: ClassVar[str] = "recon"

    @cached_property
    def _trained(self) -> tuple[ReconPruner, str]:
        module, config = checkpoint.load(Path(self.checkpoint), build, MADE_BY)
        if (trained_as := method_of(config)) != self.method:
            raise DataError(
                expected=f"weights that were trained as {self.method}",
                got=f"weights that were trained as {trained_as}",
                fix=f"take the pruner {trained_as} for them, or run `{MADE_BY}@{self.method}`",
            )
        return module.eval().requires_grad_(False), config["encoder"]

    def read(self) -> None:
        """Read the weights now, not at the first image. Raises DataError when the folder is damaged."""
        _ = self._trained

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        module, encoder = self._trained
        if encoder != view.encoder:
            raise DataError(
                expected=f"a pruner for the vision encoder {view.encoder}",
                got=f"{self.checkpoint}, trained on the tokens of encoder {encoder}",
                fix=f"run `{MADE_BY}`, or point vla.checkpoint at the model it was trained with",
            )
        device, dtype = view.tokens.device, view.tokens.dtype
        # Not module.to(dtype): that would round the rotary frequencies too, which training never did.
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return module.to(device)(view.tokens, view.grid).float()

    def flops(self, N: int, K: int, D: int, layer_flops: Any, L: int = 0) -> int:
        """One decoder layer over the query and all tokens, and the scorer."""
        return layer_flops(N + 1) + 2 * N * D
