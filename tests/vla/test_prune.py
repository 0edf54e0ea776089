"""`generate` of the untouched class with each kind of pruner: the bits of the stock model, decoding, refusals.

Batches, padding, several images, beams and samples answer as their prompts one by one.
"""

from typing import Any

import pytest
import torch
from tiny_prompts import IDS, make_inputs
from transformers import StaticCache

from stages.backbone.qwen import Model, build_model
from stages.core.errors import DataError, ParamsError
from stages.pruning import base
from stages.toy_driver.checkpoint import config
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


def test_inside_the_language_model_they_are_refused(tiny_model: Model) -> None:
    with pytest.raises(DataError, match="lose equally many tokens"):
        pruned(tiny_model, "fastv", make_inputs([[(3, 4)], [(2, 4)]]))


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


def test_padding_on_the_right_is_refused(tiny_model: Model) -> None:
    inputs = make_inputs([[(3, 4)], [(3, 4)]], after=[3, 6])
    inputs["attention_mask"] = inputs["attention_mask"].flip(1)
    with pytest.raises(DataError, match="padding_side = 'left'"):
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


# On three layers whose answers vary.

LONG = 6
TALKED = {"divprune": {}, "vispruner": {}, "fastv": {"layer": 1}, "tfps": {"layer": 2}, "sparsevlm": {"layer": 0}}


@pytest.fixture(scope="module")
def talker() -> Model:
    """Three layers of random weights whose greedy answers vary with what they read."""
    vision = {"depth": 2, "width": 16, "mlp": 24, "heads": 2, "full_attention": [1]}
    language = {"layers": 3, "width": 32, "mlp": 48, "heads": 4, "kv_heads": 2, "rope_theta": 10.0}
    torch.manual_seed(3)
    model = build_model(config(vision, {**language, "mrope_section": [1, 1, 2]}, positions=256))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval()


def spoken(model: Model, inputs: dict[str, Any], name: str, **how: Any) -> torch.Tensor:
    with prune(model, base.load(name, TALKED[name]), 50):
        made = model.generate(**inputs, max_new_tokens=LONG, min_new_tokens=LONG, **({"do_sample": False} | how))
    return made[:, inputs["input_ids"].shape[1] :]


def singles(batch: dict[str, Any], grids: list[tuple[int, int]], after: list[int]) -> list[dict[str, Any]]:
    parts, start = [], 0
    for (h, w), words in zip(grids, after, strict=True):
        one = make_inputs([[(h, w)]], after=[words])
        one["pixel_values"] = batch["pixel_values"][start : start + 4 * h * w]
        parts.append(one)
        start += 4 * h * w
    return parts


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", TALKED)
def test_a_padded_batch_answers_token_by_token_as_its_prompts_do(talker: Model, name: str, beams: int) -> None:
    batch = make_inputs([[(3, 4)], [(3, 4)], [(3, 4)]], after=[3, 6, 3])
    together = spoken(talker, batch, name, num_beams=beams)
    alone = [spoken(talker, one, name, num_beams=beams) for one in singles(batch, [(3, 4)] * 3, [3, 6, 3])]
    assert torch.equal(together, torch.cat(alone))
    assert len(set(together.flatten().tolist())) > 3, "an answer that never changes compares nothing"


@pytest.mark.parametrize("name", ["divprune", "vispruner"])
def test_a_batch_of_different_images_answers_as_its_prompts_do(talker: Model, name: str) -> None:
    grids, after = [(3, 4), (2, 4), (4, 4)], [3, 6, 2]
    batch = make_inputs([[grid] for grid in grids], after=after)
    alone = [spoken(talker, one, name) for one in singles(batch, grids, after)]
    assert torch.equal(spoken(talker, batch, name), torch.cat(alone))


@pytest.mark.parametrize("name", TALKED)
def test_samples_of_a_prompt_start_from_its_one_choice(talker: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    torch.manual_seed(0)
    three = spoken(talker, inputs, name, do_sample=True, temperature=1e-6, num_return_sequences=3)
    assert torch.equal(three, spoken(talker, inputs, name).expand(3, -1))


@pytest.mark.parametrize("name", TALKED)
def test_bfloat16_answers_are_finite_and_as_long(talker: Model, name: str) -> None:
    try:
        talker.to(torch.bfloat16)
        inputs = make_inputs([[(3, 4)], [(3, 4)]], after=[3, 6])
        assert spoken(talker, inputs, name).shape == (2, LONG)
    finally:
        talker.to(torch.float32)


@pytest.mark.parametrize("name", TALKED)
def test_by_hand_and_with_several_new_tokens_it_goes_on_as_one_by_one(talker: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    with prune(talker, base.load(name, TALKED[name]), 50):
        first = talker(**inputs, use_cache=True)
        both = talker(input_ids=torch.tensor([[30, 31]]), past_key_values=first.past_key_values).logits
        again = talker(**inputs, use_cache=True)
        one = talker(input_ids=torch.tensor([[30]]), past_key_values=again.past_key_values).logits
        two = talker(input_ids=torch.tensor([[31]]), past_key_values=again.past_key_values).logits
    torch.testing.assert_close(both, torch.cat([one, two], dim=1), atol=1e-3, rtol=1e-4)


def test_an_exception_inside_leaves_the_model_as_it_was(talker: Model) -> None:
    inputs = make_inputs([[(3, 4)]])
    before = talker(**inputs).logits
    broken = {**inputs, "pixel_values": inputs["pixel_values"][:, :7]}  # the tower raises in the middle
    with pytest.raises(RuntimeError), prune(talker, base.load("fastv", {"layer": 1}), 50):
        talker(**broken)
    assert torch.equal(talker(**inputs).logits, before)
    with prune(talker, base.load("divprune", {}), 50) as applied:
        talker(**inputs)
    assert applied.kept == 6


def test_a_second_pruner_on_the_same_model_is_refused_and_the_first_goes_on(talker: Model) -> None:
    with prune(talker, base.load("divprune", {}), 50) as applied:
        with pytest.raises(ParamsError, match="one pruner at a time"), prune(talker, base.load("tfps", {}), 50):
            pass
        talker(**make_inputs([[(3, 4)]]))
    assert applied.kept == 6


def test_another_model_of_the_same_config_is_not_touched(talker: Model) -> None:
    other, inputs = Model(talker.config).eval(), make_inputs([[(3, 4)]])
    before = other(**inputs).logits
    with prune(talker, base.load("divprune", {}), 50):
        assert torch.equal(other(**inputs).logits, before)


@pytest.mark.parametrize("name", ["divprune", "fastv"])
def test_a_cache_of_fixed_size_is_refused(talker: Model, name: str) -> None:
    with pytest.raises(DataError, match="a cache that grows"):
        spoken(talker, make_inputs([[(3, 4)]]), name, cache_implementation="static")
    cache = StaticCache(config=talker.config.get_text_config(), max_cache_len=64)
    with pytest.raises(DataError, match="a cache that grows"), prune(talker, base.load(name, TALKED[name]), 50):
        talker(**make_inputs([[(3, 4)]]), past_key_values=cache)


@pytest.mark.parametrize("name", TALKED)
def test_prompt_lookup_is_refused(talker: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    inputs["input_ids"][0, -4:] = torch.tensor([30, 31, 30, 31])  # a repetition that it picks up
    with pytest.raises(DataError, match="one by one|taken back"):
        spoken(talker, inputs, name, prompt_lookup_num_tokens=3)


def test_a_conversation_that_generate_would_go_on_with_is_refused(talker: Model) -> None:
    inputs = make_inputs([[(3, 4)]])
    with prune(talker, base.load("divprune", {}), 50):
        first = talker.generate(**inputs, max_new_tokens=2, do_sample=False, return_dict_in_generate=True)
        longer = torch.cat([first.sequences, torch.tensor([[30, 31, 32]])], dim=1)
        with pytest.raises(DataError, match="a conversation that goes on"):
            talker.generate(input_ids=longer, past_key_values=first.past_key_values, max_new_tokens=2)


def test_the_cache_of_another_prompt_is_refused(talker: Model) -> None:
    with prune(talker, base.load("divprune", {}), 50):
        first = talker(**make_inputs([[(3, 4)]]), use_cache=True)
        talker(**make_inputs([[(3, 4)]], seed=1), use_cache=True)
        with pytest.raises(DataError, match="one prompt at a time"):
            talker(input_ids=torch.tensor([[30]]), past_key_values=first.past_key_values)


def test_embeddings_and_image_tokens_without_images_are_refused(talker: Model) -> None:
    inputs = make_inputs([[(3, 4)]])
    embeds = talker.get_input_embeddings()(inputs["input_ids"])
    with prune(talker, base.load("divprune", {}), 50):
        with pytest.raises(DataError, match="got inputs_embeds"):
            talker.generate(inputs_embeds=embeds, max_new_tokens=1)
        with pytest.raises(DataError, match="image tokens alone"):
            talker(input_ids=inputs["input_ids"])


def test_shares_of_a_schedule_with_several_cuts_are_refused(talker: Model) -> None:
    class Twice(type(base.load("divprune", {}))):
        def cuts(self, N: int, K: int, layers: int) -> tuple[base.Cut, ...]:
            return base.Cut(0, (N + K) // 2), base.Cut(1, K)

    with pytest.raises(ParamsError, match="one cut"), prune(talker, Twice(), 50, per_image=True):
        pass
    with prune(talker, Twice(), 50) as applied:
        talker(**make_inputs([[(3, 4), (2, 2)]]))
    assert (applied.tokens, applied.kept) == (16, 8)


@pytest.mark.parametrize("name", ["fastv", "sparsevlm"])
def test_the_cache_of_a_finished_answer_is_let_go(talker: Model, name: str) -> None:
    import gc
    import weakref

    with prune(talker, base.load(name, TALKED[name]), 50):
        made = talker.generate(
            **make_inputs([[(3, 4)]]), max_new_tokens=2, do_sample=False, return_dict_in_generate=True
        )
        keys = weakref.ref(made.past_key_values.layers[0].keys)
        del made
        gc.collect()
        assert keys() is None
