"""The FLOPs of `flops.py`, counted while the real modules run on the meta device.

No weights, no arithmetic, the same numbers every time. Pruners are shown random tokens at the shapes of a real model,
trained ones with random weights. Always count on meta: on CPU tensors torch 2.13 counts nothing for
scaled-dot-product attention (2.15 does).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.attention import VisionFacts, causal_rows, row_attention
from stages.backbone.qwen import DecoderShape, DecoderStack, Model, build_model, decoder_shape
from stages.backbone.tokens import image_positions, keep_count
from stages.backbone.vision import Watch
from stages.core.io import read_json
from stages.efficiency.flops import account, decoder_layer_flops, prompt_flops, window_sizes
from stages.pruning.base import Cut, Pruner, TokenView
from stages.pruning.recon import Pruner as Trained
from stages.pruning.recon import ReconPruner

PRODUCTS = ("mm", "addmm", "convolution")  # of linear layers and of the patch embedding; the rest is attention
ENCODER = "encoder"  # the fingerprint that view and untrained pruner agree on
FACTS_WIDTH = 80  # of the keys of Qwen2.5-VL's vision tower, one head
META = torch.device("meta")


def meta_model(config_file: Path) -> Model:
    """Return a Qwen2.5-VL without numbers, of the shapes in a `config.json` of git."""
    with META:
        return build_model(read_json(config_file, "git checkout infra"))


def count(call: Callable[[], object]) -> tuple[int, int]:
    """Return FLOPs of (linear layers and convolutions, attention) that torch sees while `call` runs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    found = counter.get_flop_counts().get("Global", {})
    by_operator = {str(op).split(".")[-1]: flops for op, flops in found.items()}
    linear = sum(by_operator.get(name, 0) for name in PRODUCTS)
    return linear, sum(by_operator.values()) - linear


def checked(
    model: Model, grid: tuple[int, int], kept: int | Sequence[int], L: int
) -> dict[str, dict[str, int | float]]:
    """Return closed form, counted value and relative difference of each component of a prompt.

    A model on meta, an image of `grid` tokens, L text tokens. `kept` visual tokens go through all decoder layers; a
    sequence says how many go through each. Blocks of one kind have one shape, so one of each is run and multiplied.
    `pruner_layer` is one decoder layer with full attention over the image and a query, which is ReconPruner but for its
    scorer.
    """
    text, N = model.config.text_config, grid[0] * grid[1]
    with META:
        layer = DecoderStack(decoder_shape(model), 1)
    layers, embeddings = text.num_hidden_layers, partial(_empty, text.hidden_size)
    lengths = [K + L for K in ([kept] * layers if isinstance(kept, int) else kept)]
    whole = [_counted_reading(model, n) for n in lengths]
    counted = _counted_tower(model, grid) | {
        "pruner_layer": sum(count(lambda: layer(embeddings(N + 1), _places(N + 1)["position_ids"]))),
        "llm_linears": sum(linears // layers for linears, _ in whole),
        "llm_attention": sum(attention // layers for _, attention in whole),
        "lm_head_last": sum(count(lambda: model.lm_head(embeddings(1)))),
        "lm_head_all": sum(count(lambda: model.lm_head(embeddings(lengths[-1])))),
    }
    closed = prompt_flops(model.config, grid, kept, L, watched=True)
    closed["pruner_layer"] = decoder_layer_flops(text)(N + 1)
    return {
        name: {"closed_form": closed[name], "counted": flops, "difference": flops / closed[name] - 1}
        for name, flops in counted.items()
    }


def _empty(width: int, n: int) -> Tensor:
    return torch.empty(1, n, width, device=META)


def _places(n: int) -> dict[str, Tensor]:
    return {"position_ids": torch.zeros(3, 1, n, dtype=torch.long, device=META)}


@cache  # the methods of a run have few lengths between them
def _counted_reading(model: Model, n: int) -> tuple[int, int]:
    """All decoder layers over n tokens."""
    embeddings = _empty(model.config.text_config.hidden_size, n)
    return count(lambda: model.model.language_model(inputs_embeds=embeddings, use_cache=False, **_places(n)))


@cache
def _counted_tower(model: Model, grid: tuple[int, int]) -> dict[str, int]:
    """The vision tower by component, and what watching its last full block adds."""
    vision, tower = model.config.vision_config, model.model.visual
    patches, full = grid[0] * grid[1] * vision.spatial_merge_size**2, vision.fullatt_block_indexes
    hidden = torch.empty(patches, vision.hidden_size, device=META)
    values = torch.empty(patches, vision.in_channels * vision.temporal_patch_size * vision.patch_size**2, device=META)
    linears, over_image = count(lambda: _read_block(tower, full[0], hidden, [patches]))
    windowed = [i for i in range(vision.depth) if i not in full]
    windows = window_sizes(vision, grid)
    over_windows = count(lambda: _read_block(tower, windowed[0], hidden, windows))[1] if windowed else 0
    return {
        "patch_embed": sum(count(lambda: tower.patch_embed(values))),
        "vision_linears": linears * vision.depth,
        "vision_window_attention": over_windows * len(windowed),
        "vision_full_attention": over_image * len(full),
        "merger": sum(count(lambda: tower.merger(hidden))),
        "watch": _counted_watch(tower, grid, hidden) - linears - over_image,
    }


def _counted_watch(tower: Any, grid: tuple[int, int], hidden: Tensor) -> int:
    """A pass through the last full block alone while the tower is watched; the block's own work included."""
    merge, last = tower.spatial_merge_size, max(tower.fullatt_block_indexes)
    grid_thw = torch.tensor([[1, grid[0] * merge, grid[1] * merge]], device="cpu")
    tower.forward = lambda rows, grid_thw: _read_block(tower, last, rows, [rows.shape[0]])
    try:
        with Watch(tower):
            return sum(count(lambda: tower(hidden, grid_thw=grid_thw)))
    finally:
        del tower.forward


def _read_block(tower: Any, block: int, hidden: Tensor, sizes: list[int]) -> None:
    """One block of the tower. The bounds of its windows stay on the CPU: transformers calls `.tolist()` on them."""
    bounds = torch.tensor([0, *sizes], device="cpu").cumsum(0)
    angles = torch.empty(hidden.shape[0], tower.blocks[block].attn.head_dim, device=META)
    tower.blocks[block](hidden, cu_seqlens=bounds, position_embeddings=(angles, angles))


def paper_account(
    model: Model, grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """Return the table of `account`, its last row checked, each with what torch counts while the pruner chooses."""
    table = account(model.config, grid, L, percents, pruner)
    table["checked"] = checked(model, grid, table["rows"][-1]["tokens_by_layer"], L)
    for row in table["rows"]:
        closed = row["flops"]["pruner"] - row["flops"]["watch"]
        counted = counted_choice(model, grid, L, row["percent"], pruner)
        row["choosing"] = {"closed_form": closed, "counted": counted}
    return table


def counted_choice(model: Model, grid: tuple[int, int], L: int, percent: int, pruner: Pruner) -> int:
    """Return the FLOPs that torch counts in `pruner` at all its cuts together, attention that it asks for included."""
    shape = decoder_shape(model)
    view, chooses = random_view(shape, grid, L), at_shape(pruner, shape)
    present, layers, flops = view.tokens.shape[1], model.config.text_config.num_hidden_layers, 0
    for cut in pruner.cuts(present, keep_count(present, percent), layers) if percent else ():
        flops += sum(count(partial(chooses.select, at_cut(view, cut, present), cut.keep)))
        present = cut.keep
    return flops


def random_view(shape: DecoderShape, grid: tuple[int, int], L: int) -> TokenView:
    """One image of random bfloat16 tokens ahead of `L` text tokens, on meta, with all that a pruner may ask for.

    Attention is computed when it is asked for, as in the host: queries of the last rows, keys from the cache.
    """
    N, D, d = grid[0] * grid[1], shape.width, shape.width // shape.heads
    draw = partial(torch.randn, device=META, dtype=torch.bfloat16)
    hidden, project = draw(1, N + L, D), draw(D, D) / D**0.5
    key = draw(1, shape.kv_heads, N + L, d)
    valid = torch.ones(1, N + L, dtype=torch.bool, device=META)

    def attention(n: int) -> Float[Tensor, "1 heads n N"]:
        query = (hidden[:, -n:] @ project).unflatten(-1, (shape.heads, d)).transpose(1, 2)
        return row_attention(query, key, causal_rows(valid, n), d**-0.5)[..., :N]

    return TokenView(
        tokens=hidden[:, :N],
        grids=(grid,),
        positions=image_positions(grid, 1).to(META),
        keys=("image",),
        encoder=ENCODER,
        foreground=torch.rand(1, N, device=META),
        vision=VisionFacts(torch.rand(1, N, device=META), draw(1, N, FACTS_WIDTH).float()),
        text=draw(1, L, D),
        inputs=draw(1, N, D),
        attention=attention,
    )


def at_cut(view: TokenView, cut: Cut, present: int) -> TokenView:
    """`view` as the host shows it at `cut`, when `present` tokens are left; before the first layer, no attention."""
    if not cut.layer:
        return replace(view, inputs=None, attention=None)
    ask = view.attention
    assert ask is not None
    part = replace(
        view,
        tokens=view.tokens[:, :present],
        positions=view.positions[:, :, :present],
        attention=lambda n: ask(n)[..., :present],
    )
    return part if present == view.tokens.shape[1] else replace(part, vision=None, foreground=None)


def at_shape(pruner: Pruner, shape: DecoderShape) -> Pruner:
    """`pruner`; a trained one on meta at the width of `shape`, for random weights cost as much as trained ones."""
    if not isinstance(pruner, Trained):
        return pruner
    with META:
        return _Untrained(ReconPruner(shape).to(torch.bfloat16).eval().requires_grad_(False))


class _Untrained(Trained):
    def __init__(self, network: ReconPruner) -> None:
        super().__init__("random weights")
        self.__dict__["_trained"] = (network, ENCODER)  # where Trained keeps what it has read

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        scores: Tensor = self._trained[0](view.tokens, view.grid)  # of the tokens' dtype: autocast knows no meta
        return scores.float()
