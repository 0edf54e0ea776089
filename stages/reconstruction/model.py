"""ReconPruner and its decoder as one module: scores, hard mask, both branches rebuilt in one pass (Eq. 1-6)."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.backbone.qwen import DecoderShape
from stages.pruning.recon import ReconPruner
from stages.reconstruction.decoder import PixelDecoder, narrowed
from stages.reconstruction.options import TrainPruner
from stages.reconstruction.straight_through import keep_mask


class Rebuilt(NamedTuple):
    """What one forward pass gives."""

    scores: Float[Tensor, "B N"]
    keep: Float[Tensor, "B N"]  # 1 is kept, as foreground
    fore: Float[Tensor, "B 3 H W"]
    back: Float[Tensor, "B 3 H W"]


class Reconstruction(nn.Module):
    """A pruner that learns by what can be painted from the tokens it keeps, and from those it drops."""

    def __init__(self, pruner: ReconPruner, decoder: PixelDecoder, backward: Literal["sigmoid", "identity"]) -> None:
        super().__init__()
        self.pruner = pruner
        self.decoder = decoder
        self.backward_mode = backward

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Rebuilt:
        """Scores and both reconstructions.

        The decoder gets tokens scaled to deviation 1 but not centred: what all tokens have in common then tells a token
        that is there from one that is zero. With centred tokens the AUC stayed at .77 after 200 steps, against .93.
        """
        scores = self.pruner(tokens, grid).float()
        keep = keep_mask(scores, self.backward_mode)[:, :, None]
        scaled = tokens / self.pruner.std
        fore, back = self.decoder(torch.cat([scaled * keep, scaled * (1 - keep)]), grid).float().chunk(2)
        return Rebuilt(scores, keep.squeeze(-1), fore, back)


def build(shape: DecoderShape, options: TrainPruner) -> Reconstruction:
    """A module with the initial weights of `options.seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        inner = narrowed(shape, options.decoder_width)
        decoder = PixelDecoder(shape.width, inner, options.decoder_layers, options.pixels_per_token)
        return Reconstruction(ReconPruner(shape), decoder, options.straight_through)
