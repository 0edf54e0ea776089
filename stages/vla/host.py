"""Prefill and decode of a pruned prompt on an untouched Qwen2.5-VL.

The host enforces what holds for every pruner: exactly K visual tokens, ascending and unique, text never dropped,
original M-RoPE ids gathered, decoding continued at the unpruned next position.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.mrope import prompt_positions
from stages.backbone.qwen import Cache, Model
from stages.backbone.tokens import gather_positions, gather_tokens
from stages.pruning.base import Kept, TokenView, check_shape, check_verdict, verdict
from stages.pruning.view import check_whole


@dataclass(frozen=True)
class Prompt:
    """Text token ids around the images; every row of a batch has the same lengths, so no mask is needed."""

    before: Int[Tensor, "B Lb"]
    after: Int[Tensor, "B La"]
    between: tuple[Int[Tensor, "B Lt"], ...] = ()  # from one image to the next, one fewer than images

    @property
    def texts(self) -> tuple[Int[Tensor, "B Lt"], ...]:
        """All pieces of text, in order."""
        return (self.before, *self.between, self.after)

    @property
    def length(self) -> int:
        """Text tokens of a row."""
        return sum(text.shape[1] for text in self.texts)


@dataclass(frozen=True)
class Prefilled:
    """A prompt that the language model has read."""

    logits: Float[Tensor, "B V"]  # of the first answer token
    cache: Cache
    next_position: int  # M-RoPE id of the first answer token, the same whatever was pruned
    length: int  # tokens in the first layer's cache
    pruned: int  # visual tokens that the last layer did not see, per image
    kept: Int[Tensor, "B K"]  # which visual tokens it saw, ascending; -1 for merged ones, which come last
    seen: tuple[tuple[TokenView, int], ...] = ()  # what the pruner was shown and asked to keep, where it chose itself


def token_view(
    tokens: Float[Tensor, "B N D"],
    grid: tuple[int, int],
    before: int,
    keys: tuple[str, ...],
    encoder: str,
    *,
    sources: tuple[str, ...] = (),
) -> TokenView:
    """What a pruner may see of visual tokens that follow `before` text tokens; `sources` are for rulers only."""
    B, N, _ = tokens.shape
    positions = prompt_positions(before, grid, 0)[:, :, before:].expand(3, B, N).to(tokens.device)
    return TokenView(tokens, (grid,), positions, keys, encoder, sources)


def pruned_prompt(
    model: Model, view: TokenView, kept: Kept, prompt: Prompt
) -> tuple[Float[Tensor, "B L D"], Int[Tensor, "3 B L"]]:
    """Embeddings and position ids of a prompt with one image, of which the kept visual tokens only."""
    B, N, _ = view.tokens.shape
    embed = model.get_input_embeddings()
    before, after = embed(prompt.before), embed(prompt.after)
    whole = prompt_positions(prompt.before.shape[1], view.grid, prompt.after.shape[1]).to(view.tokens.device)
    whole = whole.expand(3, B, -1)
    head, tail = whole[:, :, : before.shape[1]], whole[:, :, before.shape[1] + N :]
    visual = [gather_tokens(view.tokens, kept.indices).to(before.dtype)]
    positions = [gather_positions(view.positions, kept.indices)]
    if kept.extra_tokens is not None and kept.extra_positions is not None:
        visual.append(kept.extra_tokens.to(before.dtype))
        positions.append(kept.extra_positions)
    return torch.cat([before, *visual, after], dim=1), torch.cat([head, *positions, tail], dim=2)


def prefill(model: Model, view: TokenView, kept: Kept, K: int, prompt: Prompt, method: str) -> Prefilled:
    """Read a prompt with one image, pruned to `kept` before the first layer; `method` names the pruner in a failure."""
    B, N, _ = view.tokens.shape
    check_whole(view)
    check_shape(kept, B, K, method)
    held = verdict(kept, view.tokens)
    embeds, positions = pruned_prompt(model, view, kept, prompt)
    assert embeds.shape[1] == prompt.length + K, f"{method}: {embeds.shape[1]} tokens, not {prompt.length} text + {K}"
    cache = Cache(config=model.config.get_text_config())
    logits = language_logits(model, embeds, positions, cache)
    check_verdict(held, method)  # waits for the device, when all is on its way
    merged = kept.indices.new_full((B, K - kept.indices.shape[1]), -1)
    indices = torch.cat([kept.indices, merged], dim=1)
    return Prefilled(logits, cache, next_position(view, prompt), embeds.shape[1], N - K, indices)


def next_position(view: TokenView, prompt: Prompt) -> int:
    """M-RoPE id of the first answer token: where the unpruned prompt ends."""
    return prompt.length + sum(max(grid) for grid in view.grids)


def decode(model: Model, prefilled: Prefilled, steps: int, ends: tuple[int, ...]) -> Int[Tensor, "B S"]:
    """Greedy answer tokens, at most `steps`; a row that reached one of `ends` repeats the first of them.

    Stops when every row has ended.
    """
    token = prefilled.logits.argmax(dim=-1)
    stops = torch.tensor(ends, device=token.device)
    tokens, ended = [token], torch.isin(token, stops)
    for step in range(steps - 1):
        if bool(ended.all()):
            break
        token = torch.where(ended, stops[0], decode_step(model, prefilled, token, step))
        tokens.append(token)
        ended = ended | torch.isin(token, stops)
    return torch.stack(tokens, dim=1)


def decode_step(model: Model, prefilled: Prefilled, token: Int[Tensor, " B"], step: int) -> Int[Tensor, " B"]:
    """The next greedy token; `step` answer tokens are in the cache already (the cache grows by one)."""
    position = torch.full((3, token.shape[0], 1), prefilled.next_position + step, device=token.device)
    embeds = model.get_input_embeddings()(token[:, None])
    return language_logits(model, embeds, position, prefilled.cache).argmax(dim=-1)


def language_logits(
    model: Model, embeds: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"], cache: Cache
) -> Float[Tensor, "B V"]:
    """Logits after the last position; no mask, since all rows have the same length (keeps the fast attention paths)."""
    output = model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return model.lm_head(output.last_hidden_state[:, -1])
