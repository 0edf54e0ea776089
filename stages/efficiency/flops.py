"""FLOPs of a pruned prompt in closed form: 2 per multiply-add, one image, batch 1, elementwise work not counted.

The same convention as `torch.utils.flop_counter`, which the tests hold it against at the true Qwen2.5-VL-3B and 7B
shapes, for every method and ratio. A multiply-accumulate (MAC) is two of them. Components stay apart: no single
accounting gives both 38.2 and 3.6 T of the paper's Table 4 (research/efficiency.md 1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Facts of the Hub's config.json files; `Qwen2_5_VLConfig()` is another model. Impromptu-VLA comes in both sizes;
# the paper runs the 3B one.
PAPER_MODEL = Path("infra/qwen2_5_vl_3b.json")
PAPER_MODEL_7B = Path("infra/qwen2_5_vl_7b.json")


@dataclass(frozen=True)
class VisionShape:
    """The vision tower up to and with the 2x2 merger."""

    depth: int
    width: int
    mlp_width: int
    patch_px: int
    patch_values: int  # numbers in one patch: channels x frames x patch_px^2
    merge: int  # side of the square of patches that becomes one token
    window_px: int
    full_blocks: tuple[int, ...]  # blocks that attend over the whole image; the others within windows
    out_width: int  # D


@dataclass(frozen=True)
class LanguageShape:
    """The decoder: grouped-query attention, gated MLP, an output head that costs the same tied or not."""

    layers: int
    width: int  # D
    heads: int
    key_value_heads: int
    head_width: int
    mlp_width: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Entries of the seven matrices of one layer."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_value_heads)
        return attention + 3 * self.width * self.mlp_width


@dataclass(frozen=True)
class ModelShape:
    """Vision tower and decoder of one model."""

    vision: VisionShape
    language: LanguageShape


def model_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shapes in a Qwen2.5-VL `config.json` that keeps `text_config` and `vision_config` apart."""
    vision, language = config["vision_config"], config["text_config"]
    heads = language["num_attention_heads"]
    return ModelShape(
        VisionShape(
            depth=vision["depth"],
            width=vision["hidden_size"],
            mlp_width=vision["intermediate_size"],
            patch_px=vision["patch_size"],
            patch_values=vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2,
            merge=vision["spatial_merge_size"],
            window_px=vision["window_size"],
            full_blocks=tuple(vision["fullatt_block_indexes"]),
            out_width=vision["out_hidden_size"],
        ),
        LanguageShape(
            layers=language["num_hidden_layers"],
            width=language["hidden_size"],
            heads=heads,
            key_value_heads=language["num_key_value_heads"],
            head_width=language.get("head_dim") or language["hidden_size"] // heads,
            mlp_width=language["intermediate_size"],
            vocabulary=language["vocab_size"],
        ),
    )


def prompt_flops(
    shape: ModelShape,
    grid: tuple[int, int],
    kept: int | Sequence[int],
    L: int,
    pruner: int = 0,
    *,
    watched: bool = False,
) -> dict[str, int]:
    """Return FLOPs until the first answer token, by part: an image of `grid` (h, w) tokens and `L` text tokens.

    `kept` visual tokens go through all decoder layers; a sequence says how many go through each. `pruner` is what
    choosing them costs (`Pruner.flops`); 0 where nothing is chosen. `watched`: the tower gathers what it knows of each
    token (`Pruner.needs_vision`), which no other method pays for.

    Totals stand beside the parts. Attention of the decoder is there twice: full as most counters see it, causal as a
    good kernel does it; so is the output head: at the last position, as in generation, and at all, as in a forward pass
    without `logits_to_keep`. `llm` is the decoder with full attention, without a head.
    """
    vision, language = shape.vision, shape.language
    lengths = [K + L for K in ([kept] * language.layers if isinstance(kept, int) else kept)]
    if len(lengths) != language.layers:
        raise ValueError(f"kept tokens of {language.layers} layers wanted, of {len(lengths)} given")
    heads = language.heads * language.head_width
    tokens, merged_width = grid[0] * grid[1], vision.width * vision.merge**2
    windowed, patches = vision.depth - len(vision.full_blocks), tokens * vision.merge**2
    watch = watch_flops(vision, grid) if watched else 0
    head = 2 * language.width * language.vocabulary
    parts = {
        "patch_embed": 2 * patches * vision.patch_values * vision.width,
        "vision_linears": 2 * patches * vision.depth * vision.width * (4 * vision.width + 3 * vision.mlp_width),
        "vision_window_attention": windowed * sum(_attention(n, vision.width) for n in window_sizes(vision, grid)),
        "vision_full_attention": len(vision.full_blocks) * _attention(patches, vision.width),
        "merger": 2 * tokens * merged_width * (merged_width + vision.out_width),
    }
    tower = sum(parts.values())  # the same whatever is pruned behind it
    linears = sum(2 * n * language.layer_weights for n in lengths)
    full = sum(_attention(n, heads) for n in lengths)
    causal = sum(2 * n * (n + 1) * heads for n in lengths)  # the n (n + 1) / 2 pairs of a causal mask
    choosing = pruner + watch
    return parts | {
        "watch": watch,  # of pruner, what the tower does beside its own work to be watched
        "pruner": choosing,
        "llm_linears": linears,
        "llm_attention": full,
        "llm_attention_causal": causal,
        "lm_head_last": head,
        "lm_head_all": head * lengths[-1],
        "vision": tower,
        "llm": linears + full,
        "without_vision": choosing + linears + full + head,
        "without_vision_causal": choosing + linears + causal + head,
        "with_vision": tower + choosing + linears + full + head,
    }


def watch_flops(vision: VisionShape, grid: tuple[int, int]) -> int:
    """Queries and keys of the last full block once more, and their products: the column sums of its attention.

    A fused kernel keeps no attention to sum (backbone/attention.py). The layer of ReconPruner costs about as much.
    """
    patches = grid[0] * grid[1] * vision.merge**2
    return 2 * patches * vision.width * 3 * vision.width + _attention(patches, vision.width) // 2


def decode_flops(language: LanguageShape, context: Sequence[int]) -> int:
    """Return FLOPs of one further answer token, output head included: it attends to itself too.

    `context` is how many tokens each layer's cache holds.
    """
    attention = sum(4 * (n + 1) * language.heads * language.head_width for n in context)
    return language.layers * 2 * language.layer_weights + attention + 2 * language.width * language.vocabulary


def decode_bytes(language: LanguageShape, context: Sequence[int], number_bytes: int) -> int:
    """Return the bytes that one further answer token reads at least: weights of decoder and head, and the caches.

    `number_bytes` is the width of a number: 2 for bfloat16, 4 for float32.
    """
    cached = sum(2 * n * language.key_value_heads * language.head_width for n in context)
    weights = language.layers * language.layer_weights + language.width * language.vocabulary
    return number_bytes * (weights + cached)


def decoder_layer_flops(language: LanguageShape) -> Callable[[int], int]:
    """Return FLOPs of one decoder layer with full attention as a function of its n tokens, as `Pruner.flops` wants."""
    return lambda n: 2 * n * language.layer_weights + _attention(n, language.heads * language.head_width)


def window_sizes(vision: VisionShape, grid: tuple[int, int]) -> list[int]:
    """Return the patches in each attention window, reading order; at the right and lower border they may be fewer."""
    side = vision.window_px // vision.patch_px // vision.merge
    rows, columns = ([min(side, length - start) for start in range(0, length, side)] for length in grid)
    return [vision.merge**2 * h * w for h in rows for w in columns]


def _attention(n: int, width: int) -> int:
    """Scores and weighted sum over all n x n pairs, all heads together `width` wide."""
    return 4 * n * n * width
