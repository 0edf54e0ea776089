"""The FLOPs of `flops.py` and the memory of choosing, counted while the real modules run on the meta device.

No weights, no arithmetic, the same numbers every time. Pruners are shown random tokens at the shapes of a real model,
trained ones with random weights. Always count on meta: on CPU tensors torch 2.13 counts nothing for
scaled-dot-product attention (2.15 does).
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.attention import VisionFacts, causal_rows, row_attention
from stages.backbone.mrope import image_positions
from stages.backbone.qwen import DecoderShape, DecoderStack, build_model, decoder_shape
from stages.backbone.tokens import keep_count
from stages.backbone.vision import Watch
from stages.efficiency.accounts import account
from stages.efficiency.flops import decoder_layer_flops, prompt_flops, watch_flops, window_sizes
from stages.efficiency.shapes import ModelShape, VisionShape, model_shape
from stages.pruning.base import Cut, Pruner, TokenView
from stages.pruning.recon import Pruner as Trained
from stages.pruning.recon import ReconPruner

PRODUCTS = ("mm", "addmm", "convolution")  # of linear layers and of the patch embedding; the rest is attention
ENCODER = "encoder"  # the fingerprint that view and untrained pruner agree on
FACTS_WIDTH = 80  # of the keys of Qwen2.5-VL's vision tower, one head


def count(call: Callable[[], object]) -> tuple[int, int]:
    """Return FLOPs of (linear layers and convolutions, attention) that torch sees while `call` runs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    found = counter.get_flop_counts().get("Global", {})
    by_operator = {str(op).split(".")[-1]: flops for op, flops in found.items()}
    linear = sum(by_operator.get(name, 0) for name in PRODUCTS)
    return linear, sum(by_operator.values()) - linear


def counted_prompt(
    config: Mapping[str, Any], grid: tuple[int, int], kept: int | Sequence[int], L: int
) -> dict[str, int]:
    """Return counted FLOPs by component: a Qwen2.5-VL `config.json`, an image of `grid` tokens, L text tokens.

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
    """Return closed form, counted value and relative difference of each component of a prompt."""
    shape = model_shape(config)
    layer = decoder_layer_flops(shape.language)
    closed = prompt_flops(shape, grid, kept, L).to_dict()
    closed |= {"watch": watch_flops(shape.vision, grid), "pruner_layer": layer(grid[0] * grid[1] + 1)}
    return {
        name: {"closed_form": closed[name], "counted": flops, "difference": flops / closed[name] - 1}
        for name, flops in counted_prompt(config, grid, kept, L).items()
    }


def chosen_account(
    config: Mapping[str, Any],
    L: int,
    percents: Sequence[int],
    pruner: Pruner,
    chosen: Callable[[int], Sequence[tuple[TokenView, int]]],
) -> dict[str, Any]:
    """Return the table of `account` for tokens at hand, with what torch counts while the pruner chooses its last row.

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


def paper_account(
    config: Mapping[str, Any], grid: tuple[int, int], L: int, percents: Sequence[int], pruner: Pruner
) -> dict[str, Any]:
    """Return the table of `account` for the model of a `config.json`, with the check of its last row.

    Each row has what torch counts while the pruner chooses, and its memory.
    """
    table = account(model_shape(config), grid, L, percents, pruner)
    table["checked"] = checked(config, grid, table["rows"][-1]["tokens_by_layer"], L)
    shape, layers = shape_of(config), model_shape(config).language.layers
    for row in table["rows"]:
        found = {"counted": 0, "peak_bytes": 0}
        if row["percent"]:
            found = counted_choice(shape, layers, grid, L, row["percent"], pruner)
        row["choosing"] = {"closed_form": row["flops"]["pruner"] - row["flops"]["watch"]} | found
    return table


def shape_of(config: Mapping[str, Any]) -> DecoderShape:
    """Return the decoder layer of a Qwen2.5-VL `config.json`."""
    with torch.device("meta"):
        return decoder_shape(build_model(dict(config)))


def counted_choice(
    shape: DecoderShape, layers: int, grid: tuple[int, int], L: int, percent: int, pruner: Pruner
) -> dict[str, int]:
    """Return the FLOPs that torch counts in `pruner` at all its cuts together, and the most bytes held at one.

    `percent` of the tokens of an image of `grid` (h, w) are pruned, ahead of `L` text tokens, in bfloat16. The tokens
    that it is shown are not counted, attention that it asks for is; fused attention counts with its output alone.
    """
    meta, dtype = torch.device("meta"), torch.bfloat16
    view, chooses = random_view(shape, grid, L, meta, dtype), at_shape(pruner, shape, meta, dtype)
    present = view.tokens.shape[1]
    flops, peak = 0, 0
    for cut in pruner.cuts(present, keep_count(present, percent), layers):
        found, held = _seen(partial(chooses.select, at_cut(view, cut, present), cut.keep))
        flops, peak, present = flops + found, max(peak, held), cut.keep
    return {"counted": flops, "peak_bytes": peak}


def _seen(choose: Callable[[], object]) -> tuple[int, int]:
    held: list[int] = []
    return sum(count(lambda: held.append(held_bytes(choose)))), held[0]


def random_view(
    shape: DecoderShape, grid: tuple[int, int], L: int, device: torch.device, dtype: torch.dtype
) -> TokenView:
    """One image of random tokens ahead of `L` text tokens, with all that a pruner may ask for.

    Attention is computed when it is asked for, as in the host: queries of the last rows, keys from the cache.
    """
    N, D, d = grid[0] * grid[1], shape.width, shape.width // shape.heads

    def draw(*sizes: int) -> Tensor:
        return torch.randn(*sizes, device=device, dtype=dtype)

    hidden, project = draw(1, N + L, D), draw(D, D) / D**0.5
    key = draw(1, shape.kv_heads, N + L, d)
    valid = torch.ones(1, N + L, dtype=torch.bool, device=device)

    def attention(n: int) -> Float[Tensor, "1 heads n N"]:
        query = (hidden[:, -n:] @ project).unflatten(-1, (shape.heads, d)).transpose(1, 2)
        return row_attention(query, key, causal_rows(valid, n), d**-0.5)[..., :N]

    return TokenView(
        tokens=hidden[:, :N],
        grids=(grid,),
        positions=image_positions(grid, 1).to(device),
        keys=("image",),
        encoder=ENCODER,
        foreground=torch.rand(1, N, device=device),
        vision=VisionFacts(torch.rand(1, N, device=device), draw(1, N, FACTS_WIDTH).float()),
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


def at_shape(
    pruner: Pruner, shape: DecoderShape, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Pruner:
    """`pruner`; a trained one at the width of `shape` with random weights, which cost as much as trained ones."""
    if not isinstance(pruner, Trained):
        return pruner
    with device or torch.device("cpu"):
        return _Untrained(ReconPruner(shape).to(dtype).eval().requires_grad_(False))


class _Untrained(Trained):
    def __init__(self, network: ReconPruner) -> None:
        super().__init__("random weights")
        self.__dict__["_trained"] = (network, ENCODER)  # where Trained keeps what it has read

    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        if view.tokens.device.type != "meta":
            return super().score_image(view)
        scores: Tensor = self._trained[0](view.tokens, view.grid)  # of the tokens' dtype: autocast knows no meta
        return scores.float()


def held_bytes(call: Callable[[], object]) -> int:
    """Return the most bytes of storages that `call` makes and holds at once, by the operators that it dispatches.

    Scaled-dot-product attention holds its output alone, as a fused kernel does, also where a device decomposes it into
    products (meta does).
    """
    with _Watch() as watch, _Fused(watch):
        call()
    return watch.peak


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self.fused = False  # inside a kernel whose own tensors do not count
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not self.fused and _storage(leaf) not in given:
                self.hold(leaf)
        return result

    def hold(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` until it is let go."""
        storage = tensor.untyped_storage()
        key, size = _storage(tensor), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


class _Fused(TorchFunctionMode):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.watch.fused = True
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.watch.fused = False
        self.watch.hold(result)
        return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
