"""Read a pruned prompt, and answer it, on an untouched Qwen2.5-VL: one way for every pruner.

The host enforces what holds for every method: exactly K visual tokens, ascending and unique, text never dropped,
original M-RoPE ids gathered, decoding continued at the unpruned next position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.qwen import Cache, Model
from stages.backbone.tokens import positions_around
from stages.core.errors import DataError
from stages.pruning.base import Kept, Pruner, TokenView
from stages.pruning.view import Grid
from stages.vla.cutting import Cutter, Group, Reading, Sequences, hooked, shortened


@dataclass(frozen=True)
class Prompt:
    """Text token ids around the image; every row of a batch has the same lengths, so no mask is needed."""

    before: Int[Tensor, "B Lb"]
    after: Int[Tensor, "B La"]

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens before and after the image."""
        return self.before.shape[1], self.after.shape[1]


@dataclass(frozen=True)
class Prefilled:
    """A prompt that the language model has read."""

    logits: Float[Tensor, "B V"]  # of the first answer token
    cache: Cache
    next_position: int  # M-RoPE id of the first answer token, the same whatever was pruned
    length: int  # tokens in the first layer's cache
    kept: Int[Tensor, "B K"]  # which visual tokens it saw, ascending; -1 for merged ones, which come last
    shown: tuple[tuple[TokenView, int], ...]  # at each cut, the pruner's view and how many tokens it had to keep


@dataclass(frozen=True)
class Chosen(Pruner):
    """A choice before the first layer that has been made already; `method` names its pruner in failures."""

    kept: Kept
    method: str = "the given choice"

    def select(self, view: TokenView, K: int) -> Kept:
        return self.kept


def token_view(
    tokens: Float[Tensor, "B N D"],
    grids: tuple[Grid, ...],
    texts: Sequence[int],
    keys: tuple[str, ...],
    encoder: str,
    *,
    sources: tuple[str, ...] = (),
) -> TokenView:
    """Return the view of visual tokens of images, each after as many text tokens as `texts` says."""
    B, N, _ = tokens.shape
    positions = positions_around((*texts, 0), grids)[:, :, visual_places(texts, grids)]
    return TokenView(tokens, grids, positions.expand(3, B, N).to(tokens.device), keys, encoder, sources)


def visual_places(texts: Sequence[int], grids: Sequence[Grid]) -> Int[Tensor, " N"]:
    """Return where the visual tokens stand in a prompt of text and images in turn."""
    parts, start = [], 0
    for text, (h, w) in zip(texts, grids, strict=False):
        start += text
        parts.append(torch.arange(start, start + h * w))
        start += h * w
    return torch.cat(parts)


def unpruned(model: Model, view: TokenView, prompt: Prompt) -> tuple[Group, Sequences]:
    """Return the prompt with all its visual tokens, and the group that its rows are."""
    (B, N, _), (h, w), lengths = view.tokens.shape, view.grid, prompt.lengths
    if h * w != N:
        fix = "give the prompt and the image of one and the same processor call"
        raise DataError(expected=f"{h * w} visual tokens for an image of {h} x {w} tokens", got=f"{N}", fix=fix)
    before, after = (model.get_input_embeddings()(text) for text in (prompt.before, prompt.after))
    hidden = torch.cat([before, view.tokens.to(before.dtype), after], dim=1)
    device = hidden.device
    positions = positions_around(lengths, view.grids).expand(3, B, -1).to(device)
    places = visual_places(lengths, view.grids).to(device).expand(B, N)
    view = replace(view, text=hidden[:, hidden.shape[1] - lengths[1] :])
    group = Group(slice(None), view, places, lengths[1], torch.arange(N, device=device).expand(B, N))
    return group, Sequences(hidden, positions, torch.ones_like(positions[0], dtype=torch.bool))


def pruned_prompt(
    model: Model, view: TokenView, kept: Kept, prompt: Prompt
) -> tuple[Float[Tensor, "B L D"], Int[Tensor, "3 B L"]]:
    """Return embeddings and position ids of a prompt with the kept visual tokens only."""
    _, after = shortened(*unpruned(model, view, prompt), kept)
    return after.hidden, after.positions


def prefill(model: Model, view: TokenView, pruner: Pruner, K: int, prompt: Prompt) -> Prefilled:
    """Read a prompt that `pruner` cuts to K visual tokens. ParamsError for a layer that is not there."""
    language = model.model.language_model
    group, whole = unpruned(model, view, prompt)
    cutter = Cutter(pruner, [group], lambda N: K, len(language.layers))
    reading = Reading(language, cutter, padded=False)
    cache = Cache(config=model.config.get_text_config())
    with hooked(language, lambda: reading):
        logits = language_logits(model, whole.hidden, whole.positions, cache)
    cutter.check()  # waits for the device, when all is on its way
    next_position = sum(prompt.lengths) + max(view.grid)
    return Prefilled(logits, cache, next_position, cache.get_seq_length(), cutter.groups[0].origin, tuple(cutter.shown))


def decode(model: Model, prefilled: Prefilled, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]:
    """Return greedy answer tokens, at most `steps`; a row that reached one of `ends` repeats the first."""
    token = prefilled.logits.argmax(dim=-1)
    stops = torch.tensor(ends, device=token.device)
    tokens, ended = [token], torch.isin(token, stops)
    for step in range(steps - 1):
        if bool(ended.all()):
            break
        position = torch.full((3, token.shape[0], 1), prefilled.next_position + step, device=token.device)
        embeds = model.get_input_embeddings()(token[:, None])
        logits = language_logits(model, embeds, position, prefilled.cache)
        token = torch.where(ended, stops[0], logits.argmax(dim=-1))
        tokens.append(token)
        ended = ended | torch.isin(token, stops)
    return torch.stack(tokens, dim=1)


def language_logits(
    model: Model, embeds: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"], cache: Cache
) -> Float[Tensor, "B V"]:
    """Return logits after the last position; no mask, as all rows are equally long (keeps fast attention paths)."""
    output = model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return model.lm_head(output.last_hidden_state[:, -1])
