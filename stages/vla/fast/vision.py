"""Qwen2.5-VL's vision tower as functions of a stock tower's weights: what a graph can hold.

Windows lie by length, the longest first, so that those of one length are a slice: nothing is gathered or scattered
inside a block. What an image's size decides (order, angles) is made once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.importance import VisionFacts, batched
from stages.backbone.patches import patchify
from stages.backbone.qwen import Model
from stages.backbone.tower import FastTower
from stages.backbone.vision import Watch, window_tokens
from stages.backbone.windows import window_index
from stages.vla.fast.held import Held, plainly_when_full
from stages.vla.fast.language import Matrices, fused_or_not, project
from stages.vla.fast.pointwise import PLAIN, Pointwise
from stages.vla.fast.runner import Eager, Runner, RunnerOf, runner_on

PATCHES = 65536  # seen by one step at most: four images of 1,596 px, more than fill a GPU; some 2 GB at 3B
KEPT = 8  # captured steps, of twice as many patches together
NORM_EPS = 1e-6  # of every norm of the tower; its config does not say it


class Block(NamedTuple):
    """Weights of one block."""

    norm: Tensor
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm_after: Tensor
    gate_up: Matrices
    gate_up_bias: Matrices
    down: tuple[Tensor, Tensor]
    whole: bool  # does it attend over the whole image?


@dataclass(frozen=True)
class Vision:
    """Weights and facts of a tower."""

    patch: Float[Tensor, "C values"]
    blocks: tuple[Block, ...]
    norm: Tensor
    merger: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    heads: int
    merge: int
    window: int  # merged tokens on a side of a window
    inverse_frequencies: Float[Tensor, " quarter"]  # fp32, a quarter of a head
    pointwise: Pointwise = PLAIN


def _linear(module: Any) -> tuple[Tensor, Tensor]:
    return module.weight, module.bias


@torch.no_grad()
def vision_of(visual: Any, *, fused: bool = True, pointwise: Pointwise = PLAIN) -> Vision:
    """The tower of a stock Qwen2.5-VL. `fused` costs memory: 0.6 GB at 3B in bf16."""
    blocks = []
    for i, block in enumerate(visual.blocks):
        gate_up = (block.mlp.gate_proj, block.mlp.up_proj)
        blocks.append(
            Block(
                norm=block.norm1.weight,
                qkv=_linear(block.attn.qkv),
                out=_linear(block.attn.proj),
                norm_after=block.norm2.weight,
                gate_up=fused_or_not(tuple(part.weight for part in gate_up), fused),
                gate_up_bias=fused_or_not(tuple(part.bias for part in gate_up), fused),
                down=_linear(block.mlp.down_proj),
                whole=i in visual.fullatt_block_indexes,
            )
        )
    patch = visual.patch_embed.proj.weight
    return Vision(
        patch=patch.flatten(1),
        blocks=tuple(blocks),
        norm=visual.merger.ln_q.weight,
        merger=(_linear(visual.merger.mlp[0]), _linear(visual.merger.mlp[2])),
        heads=visual.blocks[0].attn.num_heads,
        merge=visual.spatial_merge_size,
        window=window_tokens(visual),
        inverse_frequencies=visual.rotary_pos_emb.inv_freq.to(patch.device, torch.float32),
        pointwise=pointwise,
    )


@dataclass(frozen=True)
class Layout:
    """What the size of an image decides: S patches in windows by length, N merged tokens."""

    order: Int[Tensor, " N"]  # merged tokens by window
    back: Int[Tensor, " N"]
    windows: tuple[tuple[int, int], ...]  # how many, of how many patches; the longest first
    cos: Float[Tensor, "S d"]
    sin: Float[Tensor, "S d"]


def layout_of(vision: Vision, grid: tuple[int, int]) -> Layout:
    """The layout of an image of h x w merged tokens."""
    (h, w), merge, device = grid, vision.merge, vision.patch.device
    index, patches = window_index([(1, h * merge, w * merge)], vision.window, merge)
    windows = index.split([n // merge**2 for n in patches])
    by_length = sorted(range(len(windows)), key=lambda i: -patches[i])
    order = torch.cat([windows[i] for i in by_length])
    lengths = [patches[i] for i in by_length]
    counts = tuple((lengths.count(length), length) for length in sorted(set(lengths), reverse=True))
    inside = torch.arange(merge)
    rows = (order // w)[:, None, None] * merge + inside[:, None]  # N merge 1
    columns = (order % w)[:, None, None] * merge + inside  # N 1 merge
    places = torch.stack(torch.broadcast_tensors(rows, columns), dim=-1).flatten(0, 2).to(device)  # S 2
    half = (places[:, :, None].float() * vision.inverse_frequencies).flatten(1)
    angles = torch.cat([half, half], dim=1)
    return Layout(order.to(device), order.argsort().to(device), counts, angles.cos(), angles.sin())


def attention(
    query: Float[Tensor, "B S heads d"],
    key: Float[Tensor, "B S heads d"],
    value: Float[Tensor, "B S heads d"],
    windows: Sequence[tuple[int, int]],
) -> Float[Tensor, "B S C"]:
    """Of each window to itself, one call for each length."""
    parts, start = [], 0
    for count, length in windows:
        end = start + count * length
        q, k, v = (
            part[:, start:end].unflatten(1, (count, length)).flatten(0, 1).transpose(1, 2)
            for part in (query, key, value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # B*count length heads d
        parts.append(mixed.flatten(2).unflatten(0, (-1, count)).flatten(1, 2))
        start = end
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def run_tower(vision: Vision, layout: Layout, rows: Float[Tensor, "P values"], B: int) -> Float[Tensor, "B N D"]:
    """Visual tokens in reading order, of patch rows as `patchify` gives them."""
    ops, unit = vision.pointwise, vision.merge**2
    hidden = F.linear(rows, vision.patch).view(B, -1, unit, vision.patch.shape[0])
    hidden = hidden.index_select(1, layout.order).flatten(1, 2)
    everything = ((1, hidden.shape[1]),)
    normed = ops.norm(hidden, vision.blocks[0].norm, NORM_EPS)
    for i, block in enumerate(vision.blocks):
        qkv = F.linear(normed, *block.qkv).unflatten(-1, (3 * vision.heads, -1))
        turned = ops.turn(qkv[:, :, : 2 * vision.heads], layout.cos, layout.sin)
        query, key = turned.chunk(2, dim=2)
        mixed = attention(query, key, qkv[:, :, 2 * vision.heads :], everything if block.whole else layout.windows)
        hidden, normed = ops.add_norm(hidden, F.linear(mixed, *block.out), block.norm_after, NORM_EPS)
        update = F.linear(ops.gate(project(normed, block.gate_up, block.gate_up_bias)), *block.down)
        following = vision.blocks[i + 1].norm if i + 1 < len(vision.blocks) else vision.norm
        hidden, normed = ops.add_norm(hidden, update, following, NORM_EPS)
    first, second = vision.merger
    tokens = F.linear(F.gelu(F.linear(normed.unflatten(1, (-1, unit)).flatten(2), *first)), *second)
    return tokens.index_select(1, layout.back)


class Encode:
    """Encodes patch rows in one place, captured for one number of images of one size."""

    def __init__(self, vision: Vision, B: int, grid: tuple[int, int]) -> None:
        self._vision, self._layout, self._B = vision, layout_of(vision, grid), B
        patches = B * grid[0] * grid[1] * vision.merge**2
        self.rows = vision.patch.new_zeros(patches, vision.patch.shape[1])
        self.tokens = vision.patch.new_empty(0)

    def __call__(self) -> None:
        self.tokens = run_tower(self._vision, self._layout, self.rows, self._B)

    def left(self) -> Tensor:
        """The visual tokens."""
        return self.tokens

    def spoil(self) -> None:
        """Encoding again begins where it began."""
        self.tokens.fill_(torch.nan)


class GraphTower(FastTower):
    """`FastTower` by captured steps; tokens differ from its by rounding."""

    def __init__(
        self, model: Model, *, fused: bool = True, pointwise: Pointwise = PLAIN, runner_of: RunnerOf | None = None
    ) -> None:
        super().__init__(model)
        self._vision = vision_of(self._visual, fused=fused, pointwise=pointwise)
        self._runner_of = runner_of or runner_on(self.device)
        self._steps = Held[tuple[Encode, Runner]](KEPT, 2 * PATCHES)

    def encode(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        grid = self.grid((images.shape[3], images.shape[2]))
        counts = powers(images.shape[0], PATCHES // (grid[0] * grid[1] * self._vision.merge**2))
        with torch.inference_mode():
            tokens = torch.cat([self._encode(part, grid) for part in images.split(counts)])
        self.encoded_images += images.shape[0]
        return tokens

    def _encode(self, images: UInt8[Tensor, "B 3 H W"], grid: tuple[int, int]) -> Float[Tensor, "B N D"]:
        B, rows = images.shape[0], patchify(images.to(self.device, non_blocking=True))

        def call(plain: bool) -> Tensor:
            step, run = self._step(B, grid, plain=plain)
            step.rows.copy_(rows)
            run()
            return step.tokens.clone()

        return plainly_when_full(call, self._steps.clear)

    def encode_watched(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], VisionFacts]:
        """As `FastTower` does: what it watches are the stock blocks."""
        with Watch(self._visual) as watch:
            tokens = FastTower.encode(self, images)
        return tokens, batched(watch.of_images())

    def _step(self, B: int, grid: tuple[int, int], *, plain: bool) -> tuple[Encode, Runner]:
        def make() -> tuple[Encode, Runner]:
            step = Encode(self._vision, B, grid)
            return step, Eager(step) if plain else self._runner_of(step)

        patches = B * grid[0] * grid[1] * self._vision.merge**2
        return make() if plain else self._steps.get((B, grid), make, patches)


def powers(B: int, most: int) -> list[int]:
    """B as powers of two, the largest first, none above `most`: so few sizes are captured, and nothing is padded."""
    parts = []
    while B:
        parts.append(1 << (min(B, max(most, 1)).bit_length() - 1))
        B -= parts[-1]
    return parts
