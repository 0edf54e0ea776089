"""Answers after pruned prompts: batches, beams and samples as their prompts one by one, and what is refused."""

from typing import Any

import pytest
import torch
from tiny_prompts import make_inputs
from transformers import StaticCache

from stages.backbone.qwen import Model, build_model
from stages.core.errors import DataError, ParamsError
from stages.pruning import base
from stages.toy_driver.checkpoint import config
from stages.vla.prune import prune

NEW = 6
KINDS = {"divprune": {}, "visionzip": {}, "fastv": {"layer": 1}, "tfps": {"layer": 2}, "sparsevlm": {"layer": 0}}


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


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def told(model: Model, inputs: dict[str, Any], name: str, **how: Any) -> torch.Tensor:
    with prune(model, base.load(name, KINDS[name]), 50):
        made = model.generate(**inputs, max_new_tokens=NEW, min_new_tokens=NEW, **({"do_sample": False} | how))
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
@pytest.mark.parametrize("name", KINDS)
def test_a_padded_batch_answers_token_by_token_as_its_prompts_do(talker: Model, name: str, beams: int) -> None:
    batch = make_inputs([[(3, 4)], [(3, 4)], [(3, 4)]], after=[3, 6, 3])
    together = told(talker, batch, name, num_beams=beams)
    alone = [told(talker, one, name, num_beams=beams) for one in singles(batch, [(3, 4)] * 3, [3, 6, 3])]
    assert torch.equal(together, torch.cat(alone))
    assert len(set(together.flatten().tolist())) > 3, "an answer that never changes compares nothing"


@pytest.mark.parametrize("name", ["divprune", "visionzip"])
def test_a_batch_of_different_images_answers_as_its_prompts_do(talker: Model, name: str) -> None:
    grids, after = [(3, 4), (2, 4), (4, 4)], [3, 6, 2]
    batch = make_inputs([[grid] for grid in grids], after=after)
    alone = [told(talker, one, name) for one in singles(batch, grids, after)]
    assert torch.equal(told(talker, batch, name), torch.cat(alone))


@pytest.mark.parametrize("name", KINDS)
def test_samples_of_a_prompt_start_from_its_one_choice(talker: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    torch.manual_seed(0)
    three = told(talker, inputs, name, do_sample=True, temperature=1e-6, num_return_sequences=3)
    assert torch.equal(three, told(talker, inputs, name).expand(3, -1))


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_answers_are_finite_and_as_long(talker: Model, name: str) -> None:
    try:
        talker.to(torch.bfloat16)
        inputs = make_inputs([[(3, 4)], [(3, 4)]], after=[3, 6])
        assert told(talker, inputs, name).shape == (2, NEW)
    finally:
        talker.to(torch.float32)


@pytest.mark.parametrize("name", KINDS)
def test_by_hand_and_with_several_new_tokens_it_goes_on_as_one_by_one(talker: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    with prune(talker, base.load(name, KINDS[name]), 50):
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
        told(talker, make_inputs([[(3, 4)]]), name, cache_implementation="static")
    cache = StaticCache(config=talker.config.get_text_config(), max_cache_len=64)
    with pytest.raises(DataError, match="a cache that grows"), prune(talker, base.load(name, KINDS[name]), 50):
        talker(**make_inputs([[(3, 4)]]), past_key_values=cache)


@pytest.mark.parametrize("name", KINDS)
def test_prompt_lookup_is_refused(talker: Model, name: str) -> None:
    inputs = make_inputs([[(3, 4)]])
    inputs["input_ids"][0, -4:] = torch.tensor([30, 31, 30, 31])  # a repetition that it picks up
    with pytest.raises(DataError, match="one by one|taken back"):
        told(talker, inputs, name, prompt_lookup_num_tokens=3)


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


def test_a_schedule_that_needs_more_layers_is_refused(talker: Model) -> None:
    deep = {"schedule": "layer_average"}
    with pytest.raises(ParamsError, match="at least 17 layers"), prune(talker, base.load("sparsevlm", deep), 50):
        pass


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

    with prune(talker, base.load(name, KINDS[name]), 50):
        made = talker.generate(
            **make_inputs([[(3, 4)]]), max_new_tokens=2, do_sample=False, return_dict_in_generate=True
        )
        keys = weakref.ref(made.past_key_values.layers[0].keys)
        del made
        gc.collect()
        assert keys() is None
