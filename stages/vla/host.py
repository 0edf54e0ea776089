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
from stages.pruning.base import Kept, TokenView, check_kept
from stages.tokens import gather_positions, gather_tokens


@dataclass(frozen=True)
class Prompt:
    """Text token ids around one image; every row of a batch has the same lengths, so no mask is needed."""

    before: Int[Tensor, "B Lb"]
    after: Int[Tensor, "B La"]


@dataclass(frozen=True)
class Prefilled:
    """A prompt that the language model has read."""

    logits: Float[Tensor, "B V"]  # of the first answer token
    cache: Cache
    next_position: int  # M-RoPE id of the first answer token, the same whatever was pruned
    length: int  # tokens in the cache
    pruned: int  # visual tokens that the language model did not see, per image


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
    return TokenView(tokens, grid, positions, keys, encoder, sources)


def pruned_prompt(
    model: Model, view: TokenView, kept: Kept, prompt: Prompt
) -> tuple[Float[Tensor, "B L D"], Int[Tensor, "3 B L"]]:
    """Embeddings and position ids of the prompt with the kept visual tokens only."""
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
    """Read the pruned prompt; `method` names the pruner in a failure."""
    B, N, _ = view.tokens.shape
    check_kept(kept, B, N, K, method)
    embeds, positions = pruned_prompt(model, view, kept, prompt)
    text = prompt.before.shape[1] + prompt.after.shape[1]
    assert embeds.shape[1] == text + K, f"{method}: {embeds.shape[1]} prompt tokens, not {text} of text + {K}"
    cache = Cache(config=model.config.get_text_config())
    logits = _language(model, embeds, positions, cache)
    next_position = prompt.before.shape[1] + max(view.grid) + prompt.after.shape[1]
    return Prefilled(logits, cache, next_position, embeds.shape[1], N - K)


def decode(model: Model, prefilled: Prefilled, steps: int, end: int) -> Int[Tensor, "B S"]:
    """Greedy answer tokens, at most `steps`; a row that has ended repeats `end`, and all stop when every row has."""
    token = prefilled.logits.argmax(dim=-1)
    tokens, ended = [token], token == end
    for step in range(steps - 1):
        if bool(ended.all()):
            break
        token = decode_step(model, prefilled, token, step)
        token = torch.where(ended, end, token)
        tokens.append(token)
        ended = ended | (token == end)
    return torch.stack(tokens, dim=1)


def decode_step(model: Model, prefilled: Prefilled, token: Int[Tensor, " B"], step: int) -> Int[Tensor, " B"]:
    """The next greedy token; `step` answer tokens are in the cache already (the cache grows by one)."""
    position = torch.full((3, token.shape[0], 1), prefilled.next_position + step, device=token.device)
    embeds = model.get_input_embeddings()(token[:, None])
    return _language(model, embeds, position, prefilled.cache).argmax(dim=-1)


def _language(
    model: Model, embeds: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"], cache: Cache
) -> Float[Tensor, "B V"]:
    """Logits after the last position; no mask, since all rows have the same length (keeps the fast attention paths)."""
    output = model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return model.lm_head(output.last_hidden_state[:, -1])
