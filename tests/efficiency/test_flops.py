"""The closed form against research/efficiency.md, against torch's counter, and against sums done by hand."""

import json

import pytest
from transformers import Qwen2_5_VLConfig

from stages.efficiency import flops
from stages.efficiency.counted import checked, meta_model
from stages.efficiency.flops import (
    PAPER_MODEL,
    PAPER_MODEL_7B,
    decode_flops,
    decoder_layer_flops,
    prompt_flops,
    watch_flops,
    window_sizes,
)

GRID = (57, 57)  # 1596 x 1596 pixels
N = 3249


@pytest.fixture(scope="module")
def paper() -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(**json.loads(PAPER_MODEL.read_text()))


# All, the tower with its merger, the merger. What loaded checkpoints of Qwen2.5-VL-7B-Instruct report is
# 8,292,166,656 in all, 676,550,144 of them visual.
@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        (PAPER_MODEL, (3_754_622_976, 668_684_288, 36_708_608)),
        (PAPER_MODEL_7B, (8_292_166_656, 676_550_144, 44_574_464)),
    ],
)
def test_a_config_file_is_the_model_it_is_named_for_and_not_the_defaults_of_transformers(file, parameters):
    model = meta_model(file)
    parts = (model, model.model.visual, model.model.visual.merger)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == parameters
    assert Qwen2_5_VLConfig().vision_config.hidden_size != model.config.vision_config.hidden_size


def test_vision_tower_costs_twenty_tera_flops_at_the_papers_size(paper):
    cost = prompt_flops(paper, GRID, N, 0)
    assert cost["vision"] == pytest.approx(20.2268e12, rel=1e-5)
    assert cost["vision_window_attention"] + cost["vision_full_attention"] == pytest.approx(3.5751e12, rel=1e-4)
    assert cost["merger"] == pytest.approx(0.2385e12, rel=1e-3)


@pytest.mark.parametrize(
    ("K", "L", "tera"),
    [
        (3249, 0, 21.142), (3249, 100, 21.891), (3249, 250, 23.027), (2436, 0, 15.268), (2436, 100, 15.969),
        (1624, 100, 10.443), (812, 0, 4.700), (812, 100, 5.306), (812, 250, 6.226),
    ],
)  # fmt: skip
def test_language_model_costs_what_the_table_of_the_research_says(paper, K, L, tera):
    assert prompt_flops(paper, GRID, K, L)["llm"] == pytest.approx(tera * 1e12, rel=1e-4)


def test_pruner_layer_costs_0_59_tera_flops(paper):
    assert decoder_layer_flops(paper.text_config)(N + 1) == pytest.approx(0.5875e12, rel=1e-4)


def test_only_the_quadratic_part_can_shrink_faster_than_the_tokens(paper):
    full, kept = prompt_flops(paper, GRID, N, 0), prompt_flops(paper, GRID, 812, 0)
    assert full["llm_linears"] / kept["llm_linears"] == pytest.approx(N / 812)
    assert full["llm_attention"] / kept["llm_attention"] == pytest.approx((N / 812) ** 2)
    assert full["llm"] / kept["llm"] == pytest.approx(4.50, abs=5e-3)
    assert full["vision"] == kept["vision"]


def test_watching_the_tower_costs_as_much_as_the_layer_of_reconpruner(paper):
    watched = prompt_flops(paper, GRID, 812, 100, pruner=7, watched=True)
    assert (watched["watch"], watched["pruner"]) == (560_129_679_360, 560_129_679_367)
    assert watched["watch"] / decoder_layer_flops(paper.text_config)(N + 1) == pytest.approx(0.953, abs=1e-3)
    assert watched["vision"] == prompt_flops(paper, GRID, 812, 100)["vision"]


def test_causal_attention_is_the_lower_triangle(paper):
    cost = prompt_flops(paper, GRID, 3, 0)
    assert cost["llm_attention_causal"] / cost["llm_attention"] == pytest.approx(6 / 9)


def test_decoding_one_token_equals_the_growth_of_a_causal_prompt(paper):
    longer, shorter = (prompt_flops(paper, GRID, K, 0) for K in (101, 100))
    grown = (
        longer["llm_linears"]
        - shorter["llm_linears"]
        + longer["llm_attention_causal"]
        - shorter["llm_attention_causal"]
    )
    assert (
        decode_flops(paper.text_config, [100] * paper.text_config.num_hidden_layers) == grown + longer["lm_head_last"]
    )


def test_windows_of_the_papers_image_are_196_whole_28_border_and_one_corner(paper):
    sizes = window_sizes(paper.vision_config, GRID)
    assert [sizes.count(size) for size in (64, 16, 4)] == [196, 28, 1]
    assert sum(sizes) == 4 * N


def test_hand_sized_model_costs_the_sum_one_can_do_on_paper():
    vision = {"depth": 1, "hidden_size": 2, "intermediate_size": 3, "fullatt_block_indexes": [0], "out_hidden_size": 4}
    patches = {"patch_size": 1, "temporal_patch_size": 1, "in_channels": 5, "spatial_merge_size": 1, "window_size": 4}
    text = {"num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1}
    text |= {"intermediate_size": 3, "vocab_size": 7}
    config = Qwen2_5_VLConfig(vision_config=vision | patches, text_config=text)
    cost = prompt_flops(config, (1, 2), 1, 1)
    assert cost["patch_embed"] == 2 * 2 * 5 * 2
    assert cost["vision_linears"] == 2 * 2 * (2 * 6 + 2 * 2 + 3 * 2 * 3)  # q, k, v; output; gated MLP
    assert (cost["vision_full_attention"], cost["vision_window_attention"]) == (4 * 2 * 2 * 2, 0)
    assert cost["merger"] == 2 * 2 * (2 * 2 + 2 * 4)
    assert cost["llm_linears"] == 2 * 2 * (4 * 4 + 2 * 4 * 2 + 4 * 4 + 3 * 4 * 3)  # q; k, v; output; gated MLP
    assert cost["llm_attention"] == 4 * 2 * 2 * 4
    assert (cost["lm_head_last"], cost["lm_head_all"]) == (2 * 4 * 7, 2 * 2 * 4 * 7)
    assert (
        watch_flops(config.vision_config, (1, 2)) == 2 * 2 * 2 * 6 + 2 * 2 * 2 * 2
    )  # q, k, v again; every pair's product


@pytest.mark.parametrize(("file", "K"), [(PAPER_MODEL, 812), (PAPER_MODEL_7B, 3249)])
def test_closed_form_equals_the_counter_at_the_true_shapes_in_each_part(file, K):
    found = checked(meta_model(file), GRID, K, 100)
    assert len(found) == 11
    assert all(abs(part["difference"]) < 1e-3 for part in found.values())


def test_a_wrong_formula_is_seen_by_the_counter(monkeypatch):
    monkeypatch.setattr(flops, "_attention", lambda n, width: 2 * n * n * width)
    found = checked(meta_model(PAPER_MODEL), (4, 4), 8, 2)
    assert found["llm_attention"]["difference"] == 1.0
