"""Pruned prefill and decode on the real Qwen2.5-VL class at dummy width, by every method."""

import pytest
import torch
from every_pruner import METHODS, load, make_view
from torch.nn import functional as F

from stages.backbone.qwen import Model
from stages.backbone.tokens import positions_around
from stages.core.errors import DataError
from stages.pruning.base import Kept
from stages.pruning.view import TokenView
from stages.vla.cutting import cuts_inside
from stages.vla.prefill import Chosen, Prompt, decode, prefill, pruned_prompt

GRID, N, BEFORE, AFTER = (4, 6), 24, 2, 3
INSIDE = {"fastv", "text_attention", "masked_text_attention", "sparsevlm", "tfps"}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def make_prompt(B: int = 1) -> Prompt:
    return Prompt(torch.tensor([[4, 7]] * B), torch.tensor([[5, 9, 11]] * B))


def view_of(B: int = 1) -> TokenView:
    """The view that every method can be shown; positions after two text tokens are part of it."""
    return make_view(B, (GRID,))


def whole_prompt(model: Model, view: TokenView, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
    embed = model.get_input_embeddings()
    embeds = torch.cat([embed(prompt.before), view.tokens, embed(prompt.after)], dim=1)
    return embeds, positions_around((BEFORE, AFTER), view.grids).expand(3, embeds.shape[0], -1)


def test_dropping_tokens_equals_masking_their_keys(tiny_model: Model) -> None:
    view, kept = view_of(), Kept(torch.tensor([[1, 4, 5, 10]]))
    pruned = prefill(tiny_model, view, Chosen(kept), 4, make_prompt()).logits
    embeds, positions = whole_prompt(tiny_model, view, make_prompt())
    L = embeds.shape[1]
    seen = torch.ones(L, dtype=torch.bool)
    seen[BEFORE : BEFORE + N] = False
    seen[BEFORE + kept.indices[0]] = True
    allowed = torch.ones(L, L, dtype=torch.bool).tril() & (seen[None] | torch.eye(L, dtype=torch.bool))
    mask = torch.zeros(L, L).masked_fill(~allowed, -torch.inf)[None, None]
    hidden = tiny_model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, attention_mask={"full_attention": mask}
    ).last_hidden_state
    torch.testing.assert_close(pruned, tiny_model.lm_head(hidden[:, -1]), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_with_nothing_to_prune_every_method_gives_the_bits_of_the_untouched_model(tiny_model: Model, name: str) -> None:
    view = view_of(2)
    embeds, positions = whole_prompt(tiny_model, view, make_prompt(2))
    stock = tiny_model(inputs_embeds=embeds, position_ids=positions, logits_to_keep=1).logits[:, -1]
    ours = prefill(tiny_model, view, load(name), N, make_prompt(2))
    assert torch.equal(ours.logits, stock)
    assert (ours.kept.shape, ours.next_position) == ((2, N), BEFORE + max(GRID) + AFTER)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_method_leaves_k_tokens_to_the_last_layer(tiny_model: Model, name: str) -> None:
    view, pruner = view_of(2), load(name)
    read = prefill(tiny_model, view, pruner, 6, make_prompt(2))
    assert read.cache.get_seq_length(1) == 5 + 6
    assert read.kept.shape == (2, 6)
    assert read.next_position == BEFORE + max(GRID) + AFTER
    assert read.cache.get_seq_length(0) == read.length == 5 + (N if name in INSIDE else 6)
    ascending = read.kept.sort(dim=1).values
    assert bool((ascending.diff(dim=1) > 0)[ascending[:, 1:] >= 0].all())
    if name not in INSIDE and bool((read.kept >= 0).all()):  # gathered by hand, the same bits
        places = torch.cat([torch.arange(2).expand(2, -1), read.kept + 2, torch.arange(26, 29).expand(2, -1)], dim=1)
        embeds, positions = whole_prompt(tiny_model, view, make_prompt(2))
        embeds = embeds.gather(1, places[:, :, None].expand(-1, -1, embeds.shape[2]))
        positions = positions.gather(2, places.expand(3, -1, -1))
        stock = tiny_model(inputs_embeds=embeds, position_ids=positions, logits_to_keep=1).logits[:, -1]
        assert torch.equal(read.logits, stock)


@pytest.mark.parametrize("name", sorted(INSIDE - {"masked_text_attention"}))
def test_a_batch_reads_as_its_singles(tiny_model: Model, name: str) -> None:
    view = view_of(2)
    together = prefill(tiny_model, view, load(name), 6, make_prompt(2))
    for i in range(2):
        single = TokenView(view.tokens[i : i + 1], view.grids, view.positions[:, i : i + 1], view.keys[i : i + 1], "")
        alone = prefill(tiny_model, single, load(name), 6, make_prompt())
        torch.testing.assert_close(together.logits[i : i + 1], alone.logits, atol=2e-5, rtol=2e-5)
        assert torch.equal(together.kept[i : i + 1], alone.kept)


def test_decoding_with_the_cache_equals_reading_everything_again(tiny_model: Model) -> None:
    view, prompt = view_of(2), make_prompt(2)
    kept = Kept(torch.tensor([[0, 3, 11], [2, 5, 7]]))
    answer = decode(tiny_model, prefill(tiny_model, view, Chosen(kept), 3, prompt), 4, ends=(-1,))
    embeds, positions = pruned_prompt(tiny_model, view, kept, prompt)
    embeds = torch.cat([embeds, tiny_model.get_input_embeddings()(answer[:, :-1])], dim=1)
    positions = torch.cat([positions, (positions.amax() + 1 + torch.arange(3)).expand(3, 2, 3)], dim=2)
    logits = tiny_model(inputs_embeds=embeds, position_ids=positions).logits[:, -4:]
    assert answer.tolist() == logits.argmax(-1).tolist()


def test_rows_of_equal_length_are_read_without_a_mask(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One given to SDPA costs it the flash kernel and the grouped heads."""
    masks, stock = [], F.scaled_dot_product_attention

    def asked(query, key, value, attn_mask=None, **options):
        masks.append(attn_mask)
        return stock(query, key, value, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", asked)
    for name in ("divprune", "fastv"):
        decode(tiny_model, prefill(tiny_model, view_of(3), load(name), 6, make_prompt(3)), 4, ends=(-1,))
    assert masks == [None] * (2 * 4 * 2)  # two methods, the prompt and three further tokens, two layers


def test_a_faulty_choice_is_named(tiny_model: Model) -> None:
    with pytest.raises(AssertionError, match="shady"):
        prefill(tiny_model, view_of(), Chosen(Kept(torch.tensor([[0, 1]])), "shady"), 3, make_prompt())


def test_a_grid_that_does_not_match_the_tokens_is_refused(tiny_model: Model) -> None:
    wrong = TokenView(**{**vars(view_of()), "grids": ((4, 5),)})
    with pytest.raises(DataError, match="20 visual tokens"):
        prefill(tiny_model, wrong, load("divprune"), 6, make_prompt())


def test_the_methods_that_choose_inside_are_known_by_their_cuts() -> None:
    assert {name for name in METHODS if cuts_inside(load(name), N, 6, 2)} == INSIDE
