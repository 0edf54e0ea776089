"""A whole prompt, with any number of images, read by a pruner that cuts where it wants: before the model or inside."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.mrope import positions_around
from stages.backbone.qwen import Cache, Model
from stages.pruning.base import Pruner, TokenView
from stages.pruning.view import Grid, check_whole
from stages.vla.cutting import Cutter, Group
from stages.vla.host import Prefilled, Prompt, language_logits, next_position
from stages.vla.reading import Reading, hooked


def images_view(
    tokens: Float[Tensor, "B N D"],
    grids: tuple[Grid, ...],
    texts: tuple[int, ...],
    keys: tuple[str, ...],
    encoder: str,
    *,
    sources: tuple[str, ...] = (),
) -> TokenView:
    """What a pruner may see of several images per prompt, with `texts` text tokens before, between and after them."""
    B, N, _ = tokens.shape
    whole = positions_around(texts, grids)
    visual = visual_places(texts, grids)
    positions = whole[:, :, visual].expand(3, B, N).to(tokens.device)
    return TokenView(tokens, grids, positions, keys, encoder, sources)


def visual_places(texts: tuple[int, ...], grids: tuple[Grid, ...]) -> Int[Tensor, " N"]:
    """Where the visual tokens stand in a prompt of text and images in turn."""
    parts, start = [], 0
    for text, (h, w) in zip(texts, grids, strict=False):
        start += text
        parts.append(torch.arange(start, start + h * w))
        start += h * w
    return torch.cat(parts)


def whole_prompt(model: Model, view: TokenView, prompt: Prompt) -> tuple[Float[Tensor, "B L D"], Int[Tensor, "3 B L"]]:
    """Embeddings and position ids of the unpruned prompt, with any number of images."""
    embed = model.get_input_embeddings()
    texts = [embed(text) for text in prompt.texts]
    images = [image.tokens.to(texts[0].dtype) for image in view.images()]
    pieces = [piece for pair in zip(texts, images, strict=False) for piece in pair]
    positions = positions_around([text.shape[1] for text in texts], view.grids)
    return torch.cat([*pieces, texts[-1]], dim=1), positions.expand(3, view.tokens.shape[0], -1).to(view.tokens.device)


def prefill_by(
    model: Model, view: TokenView, pruner: Pruner, K: int, prompt: Prompt, *, per_image: bool = False
) -> Prefilled:
    """Read a prompt that `pruner` shortens to K visual tokens wherever it cuts, before the first layer or inside.

    Several images share one pool, or with `per_image` get their shares of K. A pruner whose layer the model does not
    have drops nothing, which `pruned` tells.
    """
    check_whole(view)
    language = model.model.language_model
    embeds, positions = whole_prompt(model, view, prompt)
    B, N = view.tokens.shape[:2]
    tail = prompt.after.shape[1]
    view = replace(view, text=embeds[:, embeds.shape[1] - tail :])
    places = visual_places(tuple(text.shape[1] for text in prompt.texts), view.grids).to(embeds.device)
    origin = torch.arange(N, device=embeds.device)
    group = Group(slice(None), view, places.expand(B, N), tail, origin.expand(B, N))
    cutter = Cutter(pruner, [group], lambda n: K, len(language.layers), per_image=per_image)
    reading = Reading(language, cutter, padded=False)
    cache = Cache(config=model.config.get_text_config())
    with hooked(language, lambda: reading):
        logits = language_logits(model, embeds, positions, cache)
    cutter.check()
    left = cache.get_seq_length(len(language.layers) - 1) - prompt.length
    seen = tuple(cutter.seen)
    return Prefilled(
        logits, cache, next_position(view, prompt), cache.get_seq_length(), N - left, cutter.groups[0].origin, seen
    )
