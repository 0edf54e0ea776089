"""From visual tokens back to pixels (Eq. 6): Qwen2.5-VL decoder layers and a linear head. Used in training only."""

import dataclasses
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stages.backbone.qwen import DecoderShape, DecoderStack
from stages.backbone.tokens import image_positions
from stages.core.errors import DataError, ParamsError

LONGEST_WAVE = 100.0  # tokens; longer than any side of the grids in use


def narrowed(shape: DecoderShape, width: int) -> DecoderShape:
    """The same layer at another width, of heads of the same size. Raises ParamsError for a fraction of a head."""
    head_width = shape.width // shape.heads
    if width % head_width:
        expected = f"a decoder width that is a multiple of the encoder's head size {head_width}"
        raise ParamsError(expected=expected, got=f"{width}", fix="edit train_pruner.decoder_width in params.yaml")
    heads = width // head_width
    kv_heads = math.gcd(heads, max(1, heads * shape.kv_heads // shape.heads))
    return dataclasses.replace(shape, width=width, heads=heads, kv_heads=kv_heads, mlp=shape.mlp * width // shape.width)


def grid_waves(grid: tuple[int, int], width: int, device: torch.device | None = None) -> Float[Tensor, "N D"]:
    """Sines and cosines of row and column, a fixed position code for any grid; entries have deviation 0.7."""
    h, w = grid
    waves = -(-width // 4)
    frequencies = LONGEST_WAVE ** (-torch.arange(waves, device=device) / waves)
    rows = (torch.arange(h, device=device)[:, None] * frequencies)[:, None].expand(h, w, waves)
    columns = (torch.arange(w, device=device)[:, None] * frequencies)[None].expand(h, w, waves)
    code = torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=-1)
    return code.reshape(h * w, 4 * waves)[:, :width]


def unpatchify(pixels: Float[Tensor, "B N C"], grid: tuple[int, int]) -> Float[Tensor, "B 3 H W"]:
    """Images from the pixels (channel, y, x) of each token; C = 3 p^2, H = h p, W = w p."""
    B, _, C = pixels.shape
    h, w = grid
    p = round((C // 3) ** 0.5)
    return pixels.view(B, h, w, 3, p, p).permute(0, 3, 1, 4, 2, 5).reshape(B, 3, h * p, w * p)


class PixelDecoder(nn.Module):
    """Rebuilds an image from tokens of which some are zero.

    Departure: a position code is added after masking. A zeroed token has no identity (Qwen's rotary embedding only
    turns queries and keys, and those of a zero token are the same everywhere), and RMSNorm at zero multiplies the
    gradient of every dropped token by 1000 (research/embedded.md 3.2, 3.3). The paper mentions no code; MAE has one.
    `position_code` False is without it. A small `head_std` starts it near black, from where it learns to paint before
    the scores can saturate; None leaves the head as torch draws it. `recompute` works the layers out again in the
    backward pass, for memory.
    """

    def __init__(
        self,
        token_width: int,
        shape: DecoderShape,
        layers: int,
        pixels_per_token: int,
        *,
        position_code: bool = True,
        head_std: float | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.position_code, self.recompute = position_code, recompute
        self.facts: dict[str, Any] = {  # from which `of_facts` makes an equal one, but for its weights
            "token_width": token_width,
            "layer": dataclasses.asdict(shape),
            "layers": layers,
            "pixels_per_token": pixels_per_token,
            "position_code": position_code,
        }
        same = token_width == shape.width
        self.inward = nn.Identity() if same else nn.Linear(token_width, shape.width)
        self.stack = DecoderStack(shape, layers)
        self.head = nn.Linear(shape.width, 3 * pixels_per_token**2)
        if head_std is not None:
            nn.init.normal_(self.head.weight, std=head_std)
            nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1], not clamped."""
        hidden = self.inward(tokens)
        if self.position_code:
            hidden = hidden + grid_waves(grid, hidden.shape[-1], hidden.device).to(hidden)
        positions = image_positions(grid, hidden.shape[0], hidden.device)
        if self.recompute:
            rotary = self.stack.rotary(hidden, positions)
            for layer in self.stack.layers:
                hidden = checkpoint(layer, hidden, position_embeddings=rotary, use_reentrant=False)
        else:
            hidden = self.stack(hidden, positions)
        return unpatchify(self.head(hidden), grid)


def of_facts(facts: dict[str, Any]) -> PixelDecoder:
    """The decoder that wrote its `facts` into a config.json. Raises DataError when they are not those of one."""
    try:
        shape = DecoderShape(**{**facts["layer"], "mrope_section": tuple(facts["layer"]["mrope_section"])})
        widths = facts["token_width"], shape, facts["layers"], facts["pixels_per_token"]
        return PixelDecoder(*widths, position_code=facts["position_code"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            expected="the shape of a decoder in config.json", got=repr(error), fix="run `dvc repro train_pruner@recon`"
        ) from error
