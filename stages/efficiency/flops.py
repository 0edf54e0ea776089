"""FLOPs of a pruned prompt in closed form: 2 per multiply-add, one image, batch 1, elementwise work not counted.

The same convention as `torch.utils.flop_counter`, which the tests hold it against at the true Qwen2.5-VL-3B and 7B
shapes, for every method and ratio. A multiply-accumulate (MAC) is two of them. Components stay apart: no single
accounting gives both 38.2 and 3.6 T of the paper's Table 4 (research/efficiency.md 1).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig

from stages.backbone.tokens import keep_count
from stages.pruning.base import Pruner, tokens_by_layer

# Facts of the Hub's config.json files; `Qwen2_5_VLConfig()` is another model. Impromptu-VLA comes in both sizes;
# the paper runs the 3B one.
PAPER_MODEL = Path("infra/qwen2_5_vl_3b.json")
PAPER_MODEL_7B = Path("infra/qwen2_5_vl_7b.json")
# Which parts a total holds. The paper names none; its ratio of 7.5 is reached by none of them.
ACCOUNTINGS = ("without_vision", "without_vision_causal", "with_vision")


def account(
    config: Qwen2_5_VLConfig, grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """Return FLOPs of an image of `grid` (h, w) tokens and `L` text tokens: a row unpruned, then one per prune ratio.

    Each row holds the components, the totals, and `unpruned / pruned` of each total; `decode_token` is the first token
    after the prompt. Choosing costs what the pruner itself states, and what the tower does to be watched for it.
    `accountings` are the same components summed in every usual way.
    """
    text = config.text_config
    N, D, layers = grid[0] * grid[1], text.hidden_size, text.num_hidden_layers
    layer = decoder_layer_flops(text)
    rows: list[dict[str, Any]] = []
    for percent in (0, *percents):
        K = keep_count(N, percent)
        cuts = pruner.cuts(N, K, layers) if percent else ()
        present = [N, *(cut.keep for cut in cuts)]
        cost = sum(pruner.flops(n, cut.keep, D, layer, L) for n, cut in zip(present, cuts, strict=False))
        kept = tokens_by_layer(cuts, N, layers)
        parts = prompt_flops(config, grid, kept, L, cost, watched=bool(percent) and pruner.needs_vision)
        flops = parts | {"decode_token": decode_flops(text, [n + L for n in kept])}
        rows.append(
            {
                "percent": percent,
                "tokens_kept": K,
                "tokens_by_layer": list(kept),
                "flops": flops,
                "accountings": accountings(parts, L),
                "ratio": {name: (rows[0]["flops"] if rows else flops)[name] / flops[name] for name in ACCOUNTINGS},
            }
        )
    return {"grid": list(grid), "tokens": N, "prompt_tokens": L, "rows": rows}


def accountings(flops: Mapping[str, int], L: int) -> list[dict[str, Any]]:
    """Return the components of a prompt with `L` text tokens, summed in every usual way.

    `unit` flop is two for a multiply-add, mac one; `vision` whether the tower is in; `attention` of the decoder over
    all pairs, over those a causal mask leaves, or none, as a counter sees it that knows no fused kernel; `lm_head` at
    the last position or at all.
    """
    attention = {"full": flops["llm_attention"], "causal": flops["llm_attention_causal"], "none": 0}
    rows = []
    for unit, vision, pairs, head in product(("flop", "mac"), (True, False), attention, ("last", "all")):
        body = flops["pruner"] + flops["llm_linears"] + attention[pairs] + flops[f"lm_head_{head}"]
        total = body + vision * flops["vision"]
        about = {"unit": unit, "vision": vision, "attention": pairs, "lm_head": head, "prompt_tokens": L}
        rows.append(about | {"total": total if unit == "flop" else total / 2})
    return rows


def as_metrics(table: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return what `dvc metrics diff` shows of a table: TFLOPs and ratio by prune ratio and accounting, 4 digits."""
    return {
        f"pruned_{row['percent']}": {
            **{f"{name}_tflops": round(row["flops"][name] / 1e12, 4) for name in (*ACCOUNTINGS, "pruner")},
            **{f"{name}_ratio": round(row["ratio"][name], 4) for name in ACCOUNTINGS},
        }
        for row in table["rows"]
    }


def prompt_flops(
    config: Qwen2_5_VLConfig,
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
    vision, text = config.vision_config, config.text_config
    lengths = [K + L for K in ([kept] * text.num_hidden_layers if isinstance(kept, int) else kept)]
    width, tokens, full_blocks = vision.hidden_size, grid[0] * grid[1], len(vision.fullatt_block_indexes)
    patches, merged_width = tokens * vision.spatial_merge_size**2, width * vision.spatial_merge_size**2
    patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    over_windows = sum(_attention(n, width) for n in window_sizes(vision, grid))
    watch = watch_flops(vision, grid) if watched else 0
    head = 2 * text.hidden_size * text.vocab_size
    parts = {
        "patch_embed": 2 * patches * patch_values * width,
        "vision_linears": 2 * patches * vision.depth * width * (4 * width + 3 * vision.intermediate_size),
        "vision_window_attention": (vision.depth - full_blocks) * over_windows,
        "vision_full_attention": full_blocks * _attention(patches, width),
        "merger": 2 * tokens * merged_width * (merged_width + vision.out_hidden_size),
    }
    tower = sum(parts.values())  # the same whatever is pruned behind it
    linears = sum(2 * n * _layer_weights(text) for n in lengths)
    full = sum(_attention(n, text.hidden_size) for n in lengths)
    causal = sum(2 * n * (n + 1) * text.hidden_size for n in lengths)  # the n (n + 1) / 2 pairs of a causal mask
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


def watch_flops(vision: Qwen2_5_VLVisionConfig, grid: tuple[int, int]) -> int:
    """Queries and keys of the last full block once more, and their products: the column sums of its attention.

    A fused kernel keeps no attention to sum (backbone/attention.py). The layer of ReconPruner costs about as much.
    """
    patches, width = grid[0] * grid[1] * vision.spatial_merge_size**2, vision.hidden_size
    return 2 * patches * width * 3 * width + _attention(patches, width) // 2


def decode_flops(text: Qwen2_5_VLTextConfig, context: Sequence[int]) -> int:
    """Return FLOPs of one further answer token, output head included: it attends to itself too.

    `context` is how many tokens each layer's cache holds.
    """
    attention = sum(4 * (n + 1) * text.hidden_size for n in context)
    return text.num_hidden_layers * 2 * _layer_weights(text) + attention + 2 * text.hidden_size * text.vocab_size


def decode_bytes(text: Qwen2_5_VLTextConfig, context: Sequence[int], number_bytes: int) -> int:
    """Return the bytes that one further answer token reads at least: weights of decoder and head, and the caches.

    `number_bytes` is the width of a number: 2 for bfloat16, 4 for float32.
    """
    cached = sum(2 * n * _key_width(text) for n in context)
    weights = text.num_hidden_layers * _layer_weights(text) + text.hidden_size * text.vocab_size
    return number_bytes * (weights + cached)


def decoder_layer_flops(text: Qwen2_5_VLTextConfig) -> Callable[[int], int]:
    """Return FLOPs of one decoder layer with full attention as a function of its n tokens, as `Pruner.flops` wants."""
    return lambda n: 2 * n * _layer_weights(text) + _attention(n, text.hidden_size)


def window_sizes(vision: Qwen2_5_VLVisionConfig, grid: tuple[int, int]) -> list[int]:
    """Return the patches in each attention window, reading order; at the right and lower border they may be fewer."""
    merge = vision.spatial_merge_size
    side = vision.window_size // vision.patch_size // merge
    rows, columns = ([min(side, length - start) for start in range(0, length, side)] for length in grid)
    return [merge**2 * h * w for h in rows for w in columns]


def _attention(n: int, width: int) -> int:
    """Scores and weighted sum over all n x n pairs, all heads together `width` wide."""
    return 4 * n * n * width


def _key_width(text: Qwen2_5_VLTextConfig) -> int:
    """Numbers in the keys of one token; a head is as wide as in any Qwen2.5-VL, the heads together as a token."""
    return int(text.hidden_size // text.num_attention_heads * text.num_key_value_heads)


def _layer_weights(text: Qwen2_5_VLTextConfig) -> int:
    """Entries of the seven matrices of one decoder layer: grouped-query attention and a gated MLP."""
    D = text.hidden_size
    return 2 * D * (D + _key_width(text)) + 3 * D * text.intermediate_size
