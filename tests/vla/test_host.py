"""Pruned prefill and decode on the real Qwen2.5-VL class at dummy width."""

import numpy as np
import pytest
import torch

from stages.backbone.mrope import prompt_positions
from stages.backbone.qwen import Model
from stages.pruning.base import Kept, TokenView
from stages.vla.host import Prompt, decode, prefill, pruned_prompt, token_view

GRID = (3, 4)
N, BEFORE, AFTER = 12, 2, 3


def make_prompt(B: int) -> Prompt:
    return Prompt(torch.tensor([[4, 7]] * B), torch.tensor([[5, 9, 11]] * B))


def make_view(B: int, D: int = 24) -> TokenView:
    tokens = torch.randn(B, N, D, generator=torch.Generator().manual_seed(1))
    return token_view(tokens, GRID, BEFORE, tuple(map(str, range(B))), "encoder")


@torch.no_grad()
def test_dropping_tokens_equals_masking_their_keys(tiny_model: Model) -> None:
    view, prompt = make_view(1), make_prompt(1)
    kept = Kept(torch.tensor([[1, 4, 5, 10]]))
    pruned = prefill(tiny_model, view, kept, 4, prompt, "test").logits
    everything = Kept(torch.arange(N)[None])
    embeds, positions = pruned_prompt(tiny_model, view, everything, prompt)
    L = embeds.shape[1]
    seen = torch.ones(L, dtype=torch.bool)
    seen[BEFORE : BEFORE + N] = False
    seen[BEFORE + kept.indices[0]] = True
    allowed = torch.ones(L, L, dtype=torch.bool).tril() & (seen[None] | torch.eye(L, dtype=torch.bool))
    hidden = tiny_model.model.language_model(
        inputs_embeds=embeds,
        position_ids=positions,
        attention_mask={"full_attention": torch.zeros(L, L).masked_fill(~allowed, -torch.inf)[None, None]},
    ).last_hidden_state
    torch.testing.assert_close(pruned, tiny_model.lm_head(hidden[:, -1]), atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_keeping_all_gives_the_bits_of_the_untouched_model(tiny_model: Model) -> None:
    view, prompt = make_view(1), make_prompt(1)
    ours = prefill(tiny_model, view, Kept(torch.arange(N)[None]), N, prompt, "none").logits
    embed = tiny_model.get_input_embeddings()
    embeds = torch.cat([embed(prompt.before), view.tokens, embed(prompt.after)], dim=1)
    theirs = tiny_model(inputs_embeds=embeds, position_ids=prompt_positions(BEFORE, GRID, AFTER), logits_to_keep=1)
    theirs = theirs.logits[:, -1]
    assert torch.equal(ours, theirs)


@torch.no_grad()
def test_decoding_with_the_cache_equals_reading_everything_again(tiny_model: Model) -> None:
    view, prompt = make_view(2), make_prompt(2)
    kept = Kept(torch.tensor([[0, 3, 11], [2, 5, 7]]))
    answer = decode(tiny_model, prefill(tiny_model, view, kept, 3, prompt, "test"), 4, ends=(-1,))
    embeds, positions = pruned_prompt(tiny_model, view, kept, prompt)
    embeds = torch.cat([embeds, tiny_model.get_input_embeddings()(answer[:, :-1])], dim=1)
    following = positions.amax() + 1 + torch.arange(3)
    positions = torch.cat([positions, following.expand(3, 2, 3)], dim=2)
    logits = tiny_model(inputs_embeds=embeds, position_ids=positions).logits[:, -4:]
    assert answer.tolist() == logits.argmax(-1).tolist()


@torch.no_grad()
def test_the_first_answer_position_does_not_depend_on_pruning(tiny_model: Model) -> None:
    view, prompt = make_view(1), make_prompt(1)
    few = prefill(tiny_model, view, Kept(torch.tensor([[6]])), 1, prompt, "test")
    all_of_them = prefill(tiny_model, view, Kept(torch.arange(N)[None]), N, prompt, "test")
    assert few.next_position == all_of_them.next_position == BEFORE + max(GRID) + AFTER
    assert (few.pruned, few.length) == (11, 6)
    assert few.cache.get_seq_length() == 6


@torch.no_grad()
def test_a_row_that_has_ended_repeats_the_end_token(tiny_model: Model) -> None:
    view, prompt = make_view(2), make_prompt(2)
    kept = Kept(torch.arange(N).expand(2, N))
    free = decode(tiny_model, prefill(tiny_model, view, kept, N, prompt, "none"), 5, ends=(-1,))
    end = int(free[0, 1])
    stopped = decode(tiny_model, prefill(tiny_model, view, kept, N, prompt, "none"), 5, ends=(end,))
    first = int(np.flatnonzero(free[0].numpy() == end)[0])
    assert stopped[0, first:].tolist() == [end] * (stopped.shape[1] - first)


def test_a_pruner_that_keeps_the_wrong_count_is_named(tiny_model: Model) -> None:
    with pytest.raises(AssertionError, match="shady"):
        prefill(tiny_model, make_view(1), Kept(torch.tensor([[0, 1]])), 3, make_prompt(1), "shady")
