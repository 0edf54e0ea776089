"""The stock vision tower in few calls and watched: the same bits, counted calls, nothing read back inside a block."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_tiny_model

from stages.backbone import vision
from stages.backbone.attention import causal_rows, layer_rows, rotate
from stages.backbone.qwen import Cache, Model, hf
from stages.backbone.vision import GROUPED, FastTower, Watch, attention_received, grouped, packing_of, window_index

CPU = torch.device("cpu")


def make_visual(depth: int = 4, full: tuple[int, ...] = (1, 3)) -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": 8}
    config = hf.Qwen2_5_VLVisionConfig(depth=depth, fullatt_block_indexes=list(full), **shape)
    return hf.Qwen2_5_VisionTransformerPretrainedModel._from_config(config, attn_implementation="sdpa").eval()


@torch.no_grad()
def encoded(visual: Any, grids: list[list[int]]) -> torch.Tensor:
    patches = sum(t * h * w for t, h, w in grids)
    pixels = torch.randn(patches, 1176, generator=torch.Generator().manual_seed(1))
    return visual(pixels, grid_thw=torch.tensor(grids)).pooler_output


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_at_644_px_88_calls_do_the_work_of_1012_with_the_same_bits(
    attention_calls: Callable[[], list[bool]],
) -> None:
    visual = make_visual(depth=32, full=(7, 15, 23, 31))
    stock = encoded(visual, [[1, 46, 46]])
    assert len(attention_calls()) == 1012
    with grouped(visual):
        fast = encoded(visual, [[1, 46, 46]])
    assert len(attention_calls()) == 88
    assert torch.equal(fast, stock)


@pytest.mark.parametrize(
    "grids", [[[1, 4, 4]], [[1, 2, 2]], [[1, 10, 12], [1, 26, 6]], [[1, 8, 8], [1, 8, 8]], [[2, 10, 12]], [[1, 2, 30]]]
)
def test_images_of_any_size_come_out_with_the_bits_of_the_stock_tower(grids: list[list[int]]) -> None:
    visual = make_visual()
    stock = encoded(visual, grids)
    with grouped(visual):
        assert torch.equal(encoded(visual, grids), stock)
    assert visual.config._attn_implementation == "sdpa"
    assert not visual._forward_pre_hooks


def test_nothing_is_read_back_inside_a_block() -> None:
    """Tensors on the meta device hold no numbers: whoever asks for one fails, as it would wait on a GPU."""
    visual = make_visual().to("meta")
    visual.config._attn_implementation = GROUPED
    groups = packing_of(visual, ((1, 26, 38),)).groups
    hidden, angles = torch.empty(26 * 38, 16, device="meta"), torch.empty(26 * 38, 8, device="meta")
    for sequences in groups:
        bounds = torch.empty(sequences + 1, dtype=torch.int32, device="meta")
        given = {"cu_seqlens": bounds, "max_seqlen": 64, "position_embeddings": (angles, angles)}
        assert visual.blocks[0](hidden, fastdrive_packing=groups, **given).shape == hidden.shape


def test_windows_of_a_5_by_6_image_lie_as_one_can_draw_them() -> None:
    index, patches = window_index([(1, 10, 12)], window_tokens=4, merge=2)
    assert index[:16].tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 18, 19, 20, 21]
    assert index[16:24].tolist() == [4, 5, 10, 11, 16, 17, 22, 23]
    assert index[24:].tolist() == [24, 25, 26, 27, 28, 29]
    assert patches == [64, 32, 16, 8]


def test_attention_received_adds_up_to_the_queries_and_is_independent_of_the_block_size() -> None:
    q, k = torch.randn(2, 2, 50, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    whole = ((q @ k.transpose(1, 2)) * 0.3).softmax(dim=-1).sum(dim=1).mean(dim=0)
    for rows in (1, 7, 256):
        torch.testing.assert_close(attention_received(q, k, 0.3, block_rows=rows), whole)
    assert whole.sum() == pytest.approx(50)


def test_watching_changes_no_bit_and_knows_each_image_apart() -> None:
    visual, grids = make_visual(), [[1, 10, 12], [1, 4, 6]]
    with grouped(visual):
        stock = encoded(visual, grids)
        with Watch(visual) as watch:
            assert torch.equal(encoded(visual, grids), stock)
    facts = watch.images
    assert [f.features.shape for f in facts] == [(1, 30, 8), (1, 6, 8)]
    assert [float(f.importance.sum()) * 4 for f in facts] == [pytest.approx(120), pytest.approx(24)]
    assert not visual.blocks[3].attn._forward_pre_hooks


def test_a_batch_of_images_encodes_as_its_singles(tiny_model: Model, images: torch.Tensor) -> None:
    tower = FastTower(tiny_model)
    tokens, facts = tower.encode_watched(images)
    assert tokens.shape == (3, 6, tower.width)
    assert (tokens.requires_grad, tokens.is_inference(), tower.encoded_images) == (False, False, 3)
    one, its = tower.encode_watched(images[1:2])
    torch.testing.assert_close(tokens[1:2], one)
    torch.testing.assert_close(facts.importance[1:2], its.importance)
    assert vision.packing.cache_info().currsize > 0
    assert not tower._visual._forward_pre_hooks


def test_the_fingerprint_changes_with_one_weight(tiny_model: Model) -> None:
    before = FastTower(tiny_model).fingerprint
    assert FastTower(tiny_model).fingerprint == before
    with torch.no_grad():
        next(tiny_model.model.visual.parameters()).view(-1)[0] += 1
    assert FastTower(tiny_model).fingerprint != before


def test_a_tower_in_bfloat16_equals_that_of_a_model_loaded_in_bfloat16(tmp_path: Path, images: torch.Tensor) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    loaded = FastTower(Model.from_pretrained(tmp_path, dtype=torch.bfloat16).eval())
    moved = FastTower(make_tiny_model()).to(CPU, torch.bfloat16)
    assert moved.dtype == loaded.dtype == torch.bfloat16
    assert moved.fingerprint == loaded.fingerprint == FastTower(make_tiny_model()).to(CPU).fingerprint
    assert torch.equal(moved.encode(images), loaded.encode(images))


@torch.no_grad()
@pytest.mark.parametrize("cached", [False, True])
def test_rows_equal_those_of_the_layers_eager_attention(tiny_model: Any, cached: bool) -> None:
    language = tiny_model.model.language_model
    language.set_attn_implementation("eager")
    embeds = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(7).expand(3, 2, 7)
    cache = Cache(config=language.config)
    seen: list[torch.Tensor] = []
    hook = language.layers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = language(
        inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True, output_attentions=True
    )
    hook.remove()
    angles = language.rotary_emb(embeds, positions)
    keys = cache.layers[1].keys if cached else None
    rows = layer_rows(language.layers[1], seen[0], angles, torch.ones(2, 7, dtype=torch.bool), 3, keys)
    torch.testing.assert_close(rows, output.attentions[1][:, :, -3:], atol=1e-6, rtol=1e-5)


def test_masks_and_rotations_that_one_can_check_by_eye() -> None:
    valid = torch.tensor([[False, True, True, True]])
    assert causal_rows(valid, 2)[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 1]]
    turned = rotate(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.zeros(1, 4), torch.ones(1, 4))
    assert turned.tolist() == [[-3.0, -4.0, 1.0, 2.0]]
