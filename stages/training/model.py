"""The trained module: ReconPruner with the decoder that paints from its choice, or alone (Eq. 1-6, Table 2)."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.backbone.qwen import DecoderShape
from stages.core.errors import ParamsError
from stages.pruning.recon import ReconPruner
from stages.training import TrainPruner
from stages.training.data import Batch
from stages.training.decoder import PixelDecoder, narrowed
from stages.training.losses import class_losses, image_losses, keep_mask, total_loss


class Rebuilt(NamedTuple):
    """The result of one forward pass."""

    scores: Float[Tensor, "B N"]
    keep: Float[Tensor, "B N"]  # 1 is kept, as foreground
    fore: Float[Tensor, "B 3 H W"] | None  # None where nothing is painted
    back: Float[Tensor, "B 3 H W"] | None


class Reconstruction(nn.Module):
    """A pruner that learns by what can be painted from the tokens it keeps, and from those it drops.

    Without the adversarial branch (`both` False) only from those it keeps; with no decoder it learns from its scores.
    """

    def __init__(
        self,
        pruner: ReconPruner,
        decoder: PixelDecoder | None,
        backward: Literal["sigmoid", "identity"],
        *,
        both: bool = True,
    ) -> None:
        super().__init__()
        self.pruner = pruner
        self.decoder = decoder
        self.backward_mode, self.both = backward, both

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Rebuilt:
        """Scores and reconstructions; both branches are one batch of 2B for the decoder.

        The decoder gets tokens scaled to deviation 1 but not centred: what all tokens have in common
        then tells a token that is there from one that is zero. Centred, the AUC stayed at .77 after 200 steps, not .93.
        """
        scores = self.pruner(tokens, grid).float()
        keep = keep_mask(scores, self.backward_mode)
        if self.decoder is None:
            return Rebuilt(scores, keep, None, None)
        scaled = tokens / self.pruner.std
        mask = keep[:, :, None]
        if not self.both:
            return Rebuilt(scores, keep, self.decoder(scaled * mask, grid).float(), None)
        fore, back = self.decoder(torch.cat([scaled * mask, scaled * (1 - mask)]), grid).float().chunk(2)
        return Rebuilt(scores, keep, fore, back)


def losses(rebuilt: Rebuilt, batch: Batch, options: TrainPruner) -> tuple[Tensor, Tensor, Tensor]:
    """Total, foreground and background loss of a batch (Eq. 7-8); NaN for a background that is not painted."""
    if rebuilt.fore is None:
        fore, back = class_losses(rebuilt.scores, batch.share > options.mask_threshold)
    elif rebuilt.back is None:
        fore = _painted(rebuilt.fore, batch.fore, options).mean()
        back = torch.full_like(fore, torch.nan)
    else:
        painted, targets = torch.cat([rebuilt.fore, rebuilt.back]), torch.cat([batch.fore, batch.back])
        fore, back = (part.mean() for part in _painted(painted, targets, options).chunk(2))
    return total_loss(fore, back, options.alpha) if options.adversarial else fore, fore, back


def _painted(images: Tensor, targets: Tensor, options: TrainPruner) -> Float[Tensor, " B"]:
    return image_losses(images, targets.float() / 255, options.ssim_weight, options.ssim_window_px)


def build(shape: DecoderShape, options: TrainPruner, layers: Sequence[Mapping[str, Tensor]] = ()) -> Reconstruction:
    """A module with the initial weights of `options.seed`; the global random state is left as it was.

    With `init: checkpoint`, layers start as `layers` of the checkpoint: the pruner's as its first, the decoder's as its
    first ones. Raises ParamsError when the decoder is of another width, or deeper than the checkpoint.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        decoder = None
        if options.objective == "reconstruction":
            inner = narrowed(shape, options.decoder_width)
            how = {"position_code": options.position_code, "recompute": options.recompute}
            sizes = options.decoder_layers, options.pixels_per_token
            decoder = PixelDecoder(shape.width, inner, *sizes, head_std=options.decoder_head_std, **how)
        pruner = ReconPruner(shape)
    if options.init == "checkpoint":
        if decoder and (options.decoder_layers > len(layers) or options.decoder_width != shape.width):
            raise ParamsError(
                expected=f"a decoder of at most {len(layers)} layers of width {shape.width}, which the checkpoint has",
                got=f"decoder_layers {options.decoder_layers}, decoder_width {options.decoder_width}",
                fix="edit them under train_pruner in params.yaml, or set train_pruner.init to random",
            )
        for stack in [pruner.layer, *([decoder.stack] if decoder else [])]:
            for layer, weights in zip(stack.layers, layers, strict=False):
                layer.load_state_dict(weights)
    return Reconstruction(pruner, decoder, options.straight_through, both=options.adversarial)
