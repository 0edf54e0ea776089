"""`generate` of the untouched class with each kind of pruner: batches, padding, several images, beams, refusals."""

from typing import Any

import pytest
import torch
from tiny_prompts import IDS, make_inputs

from stages.backbone.qwen import Model
from stages.core.errors import DataError, ParamsError
from stages.pruning import base
from stages.vla.prune import prune

NEW = 4
# Before the language model, watching the tower, inside it, inside with merged tokens
KINDS = {
    "divprune": {},
    "vispruner": {},
    "visionzip": {},
    "cdpruner": {},
    "fastv": {"layer": 1},
    "text_attention": {"layer": 1},
    "tfps": {"layer": 1},
    "sparsevlm": {"layer": 0},
}


def answers(model: Model, inputs: dict[str, Any], **how: Any) -> torch.Tensor:
    made = model.generate(**inputs, max_new_tokens=NEW, do_sample=False, **how)
    return made[:, inputs["input_ids"].shape[1] :]


def scores(model: Model, inputs: dict[str, Any]) -> torch.Tensor:
    """Logits of the first answer token, (B, V)."""
    return model(**inputs, logits_to_keep=1).logits[:, -1]


def pruned(model: Model, name: str, inputs: dict[str, Any], percent: int = 50, **how: Any) -> torch.Tensor:
    with prune(model, base.load(name, KINDS.get(name, {})), percent, **how) as applied:
        logits = scores(model, inputs)
    assert applied.kept < applied.tokens, "nothing was dropped"
    return logits


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", ["none", *KINDS])
def test_with_nothing_to_prune_the_logits_are_the_bits_of_the_stock_model(tiny_model: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)], [(3, 4)]])
    stock, told = scores(tiny_model, inputs), answers(tiny_model, inputs)
    with prune(tiny_model, base.load(name, KINDS.get(name, {})), 0) as applied:
        assert torch.equal(scores(tiny_model, inputs), stock)
        assert torch.equal(answers(tiny_model, inputs), told)
    assert applied.kept == applied.tokens == 4 * 12


@pytest.mark.parametrize("name", KINDS)
def test_afterwards_the_model_is_as_before(tiny_model: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    before = scores(tiny_model, inputs)
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in tiny_model.modules()]
    pruned(tiny_model, name, inputs)
    assert torch.equal(scores(tiny_model, inputs), before)
    assert hooks == [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in tiny_model.modules()]
    assert tiny_model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", KINDS)
def test_a_padded_batch_answers_as_its_prompts_one_by_one(tiny_model: Model, name: str) -> None:
    batch = make_inputs([[(3, 4)], [(3, 4)]], after=[3, 6])
    together = pruned(tiny_model, name, batch)
    for i, after in enumerate([3, 6]):
        single = make_inputs([[(3, 4)]], after=[after])
        single["pixel_values"] = batch["pixel_values"][48 * i : 48 * (i + 1)]
        torch.testing.assert_close(together[i : i + 1], pruned(tiny_model, name, single), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_decoding_goes_on_where_the_unpruned_prompt_ends(tiny_model: Model, name: str) -> None:
    """Each answer token is what the model says after the tokens before it, read in one go with the pruned prompt."""
    inputs = make_inputs([[(3, 4)]])
    pruner = base.load(name, KINDS[name])
    with prune(tiny_model, pruner, 50):
        step = tiny_model.generate(
            **inputs, max_new_tokens=NEW, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        cache = step.past_key_values
    lengths = [cache.get_seq_length(i) for i in range(2)]
    L = inputs["input_ids"].shape[1]
    cuts = [cut.layer for cut in pruner.cuts(12, 6, 2)]
    assert lengths == [L - 6 * (i >= cuts[0]) + NEW - 1 for i in range(2)]
    # The same without a cache: every step reads the prompt anew; a method that looks at the last token of the prompt
    # would choose anew too, so that only those are compared that look at the image alone.
    if name in ("divprune", "vispruner", "visionzip", "tfps"):
        with prune(tiny_model, pruner, 50):
            anew = tiny_model.generate(
                **inputs,
                max_new_tokens=NEW,
                do_sample=False,
                use_cache=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        torch.testing.assert_close(torch.cat(step.logits), torch.cat(anew.logits), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("per_image", [False, True])
def test_several_images_share_one_pool_or_get_their_shares(tiny_model: Model, name: str, per_image: bool) -> None:
    inputs = make_inputs([[(3, 4), (2, 2), (4, 4)], [(3, 4), (2, 2), (4, 4)]])
    with prune(tiny_model, base.load(name, KINDS[name]), 75, per_image=per_image) as applied:
        scores(tiny_model, inputs)
    assert (applied.prompts, applied.tokens, applied.kept) == (2, 64, 16)


def test_prompts_with_images_of_different_sizes_are_padded_anew(tiny_model: Model) -> None:
    batch = make_inputs([[(3, 4)], [(2, 4)]])
    together = pruned(tiny_model, "divprune", batch)
    for i, (grid, part) in enumerate([((3, 4), slice(0, 48)), ((2, 4), slice(48, 80))]):
        single = make_inputs([[grid]])
        single["pixel_values"] = batch["pixel_values"][part]
        torch.testing.assert_close(together[i : i + 1], pruned(tiny_model, "divprune", single), atol=2e-5, rtol=2e-5)


def test_inside_the_language_model_they_are_refused(tiny_model: Model) -> None:
    with pytest.raises(DataError, match="lose equally many tokens"):
        pruned(tiny_model, "fastv", make_inputs([[(3, 4)], [(2, 4)]]))


def test_an_image_of_one_token_is_kept(tiny_model: Model) -> None:
    inputs = make_inputs([[(1, 1)]])
    stock = scores(tiny_model, inputs)
    with prune(tiny_model, base.load("divprune", {}), 0) as applied:
        assert torch.equal(scores(tiny_model, inputs), stock)
    assert applied.kept == 1
    with pytest.raises(ParamsError, match="keeps none"), prune(tiny_model, base.load("divprune", {}), 50):
        scores(tiny_model, inputs)


@pytest.mark.parametrize("name", ["divprune", "vispruner", "fastv"])
def test_beams_of_a_prompt_share_its_choice(tiny_model: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)], [(3, 4)]])
    with prune(tiny_model, base.load(name, KINDS[name]), 50) as applied:
        answers(tiny_model, inputs, num_beams=3)
    assert (applied.tokens, applied.kept) == (6 * 12, 6 * 6)


def test_text_alone_passes_untouched(tiny_model: Model) -> None:
    ids = torch.tensor([[20, 21, 22]])
    stock = answers(tiny_model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    with prune(tiny_model, base.load("fastv", {"layer": 1}), 50) as applied:
        scores(tiny_model, make_inputs([[(3, 4)]]))
        told = answers(tiny_model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert torch.equal(told, stock)
    assert applied.prompts == 1


def test_eager_attention_gives_the_same_choice(tiny_model: Model) -> None:
    inputs = make_inputs([[(3, 4)], [(3, 4)]], after=[3, 6])
    by_kernel = pruned(tiny_model, "fastv", inputs)
    tiny_model.set_attn_implementation("eager")
    torch.testing.assert_close(pruned(tiny_model, "fastv", inputs), by_kernel, atol=2e-5, rtol=2e-5)


def test_a_layer_that_the_model_does_not_have_is_refused(tiny_model: Model) -> None:
    with pytest.raises(ParamsError, match="a layer below 2"), prune(tiny_model, base.load("fastv", {"layer": 2}), 50):
        pass


@pytest.mark.parametrize("percent", [-1, 100])
def test_a_ratio_outside_zero_to_hundred_is_refused(tiny_model: Model, percent: int) -> None:
    with pytest.raises(ParamsError, match="0 <= p < 100"), prune(tiny_model, base.load("divprune", {}), percent):
        pass


def test_padding_on_the_right_is_refused(tiny_model: Model) -> None:
    inputs = make_inputs([[(3, 4)], [(3, 4)]], after=[3, 6])
    inputs["attention_mask"] = inputs["attention_mask"].flip(1)
    with pytest.raises(DataError, match="padding_side = 'left'"):
        pruned(tiny_model, "divprune", inputs)


def test_fewer_image_tokens_than_the_images_have_are_refused(tiny_model: Model) -> None:
    inputs = make_inputs([[(3, 4)]])
    inputs["image_grid_thw"] = torch.tensor([[1, 6, 8], [1, 2, 2]])
    inputs["pixel_values"] = torch.randn(52, 1176)
    with pytest.raises(Exception, match="do not match|image tokens"):
        pruned(tiny_model, "divprune", inputs)


def test_a_prompt_without_an_image_in_a_batch_is_refused(tiny_model: Model) -> None:
    inputs = make_inputs([[(3, 4)], []], after=[3, 17])
    with pytest.raises(DataError, match="none in row 1"):
        pruned(tiny_model, "divprune", inputs)


def test_weights_that_are_no_numbers_are_refused(tiny_model: Model) -> None:
    tiny_model.model.visual.merger.mlp[2].bias.data[0] = torch.nan
    for name in ("divprune", "fastv", "visionzip"):
        with pytest.raises(DataError, match="NaN or infinity"):
            pruned(tiny_model, name, make_inputs([[(3, 4)]]))


def test_special_tokens_around_the_image_are_never_dropped(tiny_model: Model) -> None:
    inputs = make_inputs([[(3, 4)]])
    seen: list[torch.Tensor] = []
    hook = tiny_model.model.language_model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pruned(tiny_model, "divprune", inputs)
    hook.remove()
    embed = tiny_model.get_input_embeddings()
    ids = inputs["input_ids"][0]
    text = embed(ids[ids != IDS["<|image_pad|>"]])
    rows = {tuple(row.tolist()) for row in seen[-1][0]}
    assert all(tuple(row.tolist()) in rows for row in text)
    assert len(seen[-1][0]) == len(text) + 6
