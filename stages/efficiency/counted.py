"""The FLOPs of `flops.py`, counted by torch while the real modules run on the meta device: no weights, no arithmetic.

Always count on meta: on CPU tensors torch 2.13 counts nothing for scaled-dot-product attention (2.15 does).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.qwen import DecoderStack, build_model, decoder_shape
from stages.backbone.vision import Watch
from stages.efficiency.accounts import account
from stages.efficiency.flops import decoder_layer_flops, prompt_flops, watch_flops, window_sizes
from stages.efficiency.shapes import ModelShape, VisionShape, model_shape
from stages.pruning.base import Pruner, TokenView

PRODUCTS = (
    "mm",
    "addmm",
    "convolution",
)  # operators of linear layers and of the patch embedding; the rest is attention


def count(call: Callable[[], object]) -> tuple[int, int]:
    """FLOPs of (linear layers and convolutions, attention) that torch sees while `call` runs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    found = counter.get_flop_counts().get("Global", {})
    by_operator = {str(op).split(".")[-1]: flops for op, flops in found.items()}
    linear = sum(by_operator.get(name, 0) for name in PRODUCTS)
    return linear, sum(by_operator.values()) - linear


def counted_prompt(
    config: Mapping[str, Any], grid: tuple[int, int], kept: int | Sequence[int], L: int
) -> dict[str, int]:
    """Counted FLOPs by component: a Qwen2.5-VL `config.json`, an image of `grid` tokens, L text tokens.

    `kept` visual tokens go through all decoder layers; a sequence says how many go through each. Blocks of one kind
    have one shape, so one of each is run and multiplied. `pruner_layer` is one decoder layer with
    full attention over the image and a query, which is ReconPruner but for its scorer.
    """
    with torch.device("meta"):
        model = build_model(dict(config))
    shape: ModelShape = model_shape(config)
    inner: Any = model.model
    layers = shape.language.layers
    lengths = [K + L for K in ([kept] * layers if isinstance(kept, int) else kept)]
    whole = {n: count(partial(_read_prompt, inner.language_model, shape.language.width, n)) for n in set(lengths)}
    linears, attention = (sum(whole[n][part] // layers for n in lengths) for part in (0, 1))
    last, every = (count(partial(_write, model.lm_head, shape.language.width, n)) for n in (1, lengths[-1]))
    return _counted_vision(inner.visual, shape.vision, grid) | {
        "pruner_layer": _counted_layer(model, shape.language.width, grid[0] * grid[1] + 1),
        "llm_linears": linears,
        "llm_attention": attention,
        "lm_head_last": sum(last),
        "lm_head_all": sum(every),
    }


def checked(
    config: Mapping[str, Any], grid: tuple[int, int], kept: int | Sequence[int], L: int
) -> dict[str, dict[str, int | float]]:
    """Closed form, counted value and relative difference of each component of a prompt."""
    shape = model_shape(config)
    layer = decoder_layer_flops(shape.language)
    closed = prompt_flops(shape, grid, kept, L).to_dict()
    closed |= {"watch": watch_flops(shape.vision, grid), "pruner_layer": layer(grid[0] * grid[1] + 1)}
    return {
        name: {"closed_form": closed[name], "counted": flops, "difference": flops / closed[name] - 1}
        for name, flops in counted_prompt(config, grid, kept, L).items()
    }


def checked_account(
    config: Mapping[str, Any], grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """The table of `account` for the model of a `config.json`, with the check of its last row."""
    table = account(model_shape(config), grid, L, percents, pruner)
    return table | {"checked": checked(config, grid, table["rows"][-1]["tokens_by_layer"], L)}


def chosen_account(
    config: Mapping[str, Any],
    L: int,
    percents: Sequence[int],
    pruner: Pruner,
    chosen: Callable[[int], Sequence[tuple[TokenView, int]]],
) -> dict[str, Any]:
    """The table of `account` for tokens at hand, with what torch counts while the pruner chooses its last row.

    `chosen(percent)` gives what the pruner is shown at each of its cuts and how many tokens it is to keep.
    """
    last = percents[-1] if percents else 0
    seen = chosen(last)
    table = account(model_shape(config), seen[0][0].grid, L, percents, pruner)
    counted = sum(sum(count(partial(pruner.select, view, K))) for view, K in seen)
    stated = table["rows"][-1]["flops"]
    return table | {"choosing": {"closed_form": stated["pruner"] - stated["watch"], "counted": counted}}


def _counted_vision(visual: Any, vision: VisionShape, grid: tuple[int, int]) -> dict[str, int]:
    patches = grid[0] * grid[1] * vision.merge**2
    full = len(vision.full_blocks)
    windowed = vision.depth - full
    hidden = torch.empty(patches, vision.width, device="meta")
    linears, over_image = count(lambda: _read_block(visual, vision.full_blocks[0], hidden, [patches]))
    over_windows = 0
    if windowed:
        block = next(i for i in range(vision.depth) if i not in vision.full_blocks)
        _, over_windows = count(lambda: _read_block(visual, block, hidden, window_sizes(vision, grid)))
    return {
        "patch_embed": sum(count(lambda: visual.patch_embed(torch.empty(patches, vision.patch_values, device="meta")))),
        "vision_linears": linears * vision.depth,
        "vision_window_attention": over_windows * windowed,
        "vision_full_attention": over_image * full,
        "merger": sum(count(lambda: visual.merger(hidden))),
        "watch": _counted_watch(visual, vision, grid, hidden) - linears - over_image,
    }


def _counted_watch(visual: Any, vision: VisionShape, grid: tuple[int, int], hidden: torch.Tensor) -> int:
    """A pass through the last full block alone while the tower is watched; the block's own work included."""
    grid_thw = torch.tensor([[1, grid[0] * vision.merge, grid[1] * vision.merge]], device="cpu")
    visual.forward = lambda rows, grid_thw: _read_block(visual, vision.full_blocks[-1], rows, [rows.shape[0]])
    try:
        with Watch(visual):
            return sum(count(lambda: visual(hidden, grid_thw=grid_thw)))
    finally:
        del visual.forward


def _read_block(visual: Any, block: int, hidden: torch.Tensor, sizes: list[int]) -> None:
    """One block of the tower. The bounds of its windows stay on the CPU: transformers calls `.tolist()` on them."""
    bounds = torch.tensor([0, *sizes], device="cpu").cumsum(0)
    head_width = visual.blocks[block].attn.head_dim
    angles = torch.empty(hidden.shape[0], head_width, device="meta")
    visual.blocks[block](hidden, cu_seqlens=bounds, position_embeddings=(angles, angles))


def _read_prompt(language: Any, width: int, n: int) -> None:
    embeddings = torch.empty(1, n, width, device="meta")
    positions = torch.zeros(3, 1, n, dtype=torch.long, device="meta")
    language(inputs_embeds=embeddings, position_ids=positions, use_cache=False)


def _write(head: Any, width: int, n: int) -> None:
    head(torch.empty(1, n, width, device="meta"))


def _counted_layer(model: Any, D: int, n: int) -> int:
    with torch.device("meta"):
        layer = DecoderStack(decoder_shape(model), 1)
        hidden, positions = torch.empty(1, n, D), torch.zeros(3, 1, n, dtype=torch.long)
    return sum(count(lambda: layer(hidden, positions)))
