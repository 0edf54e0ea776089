"""The stock vision tower in few calls and watched: the same bits, counted calls, nothing read back inside a block."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stages.backbone import attention
from stages.backbone.attention import attention_received, packing, window_index
from stages.backbone.qwen import hf
from stages.backbone.vision import GROUPED, FastTower, Watch, grouped, window_tokens


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
def calls(attention_calls: Callable[[], list[bool]]) -> Callable[[], int]:
    """How many SDPA calls there were since the last question."""
    return lambda: len(attention_calls())


def test_at_1596_px_88_calls_do_the_work_of_6304_with_the_same_bits(calls: Callable[[], int]) -> None:
    visual = make_visual(depth=32, full=(7, 15, 23, 31))
    stock = encoded(visual, [[1, 114, 114]])
    assert calls() == 6304
    with grouped(visual):
        fast = encoded(visual, [[1, 114, 114]])
    assert calls() == 88
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


def test_a_tower_that_is_set_to_another_attention_is_left_as_it_is() -> None:
    visual = make_visual()
    visual.config._attn_implementation = "eager"
    with grouped(visual):
        assert visual.config._attn_implementation == "eager"


def test_nothing_is_read_back_inside_a_block() -> None:
    """Tensors on the meta device hold no numbers: whoever asks for one fails, as it would wait on a GPU."""
    visual = make_visual().to("meta")
    visual.config._attn_implementation = GROUPED
    grids = ((1, 26, 38),)
    groups = packing(grids, window_tokens(visual), 2, torch.device("meta"))
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


def test_attention_received_adds_up_to_the_queries_and_minds_no_block_size() -> None:
    q, k = torch.randn(2, 2, 50, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    whole = ((q @ k.transpose(1, 2)) * 0.3).softmax(dim=-1).sum(dim=1).mean(dim=0)
    for rows in (1, 7, 50, 256):
        torch.testing.assert_close(attention_received(q, k, 0.3, block_rows=rows), whole)
    assert whole.sum() == pytest.approx(50)


def test_watching_changes_no_bit_and_knows_each_image_apart() -> None:
    visual = make_visual()
    grids = [[1, 10, 12], [1, 4, 6]]
    with grouped(visual):
        stock = encoded(visual, grids)
        with Watch(visual) as watch:
            assert torch.equal(encoded(visual, grids), stock)
    facts = watch.of_images()
    assert [f.importance.shape for f in facts] == [(1, 30), (1, 6)]
    assert [f.features.shape for f in facts] == [(1, 30, 8), (1, 6, 8)]
    assert [float(f.importance.sum()) * 4 for f in facts] == [pytest.approx(120), pytest.approx(24)]
    assert not visual.blocks[3].attn._forward_pre_hooks


def test_the_largest_piece_of_attention_held_at_once_is_a_block_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.efficiency.traced import trace

    q, k = torch.randn(2, 1, 2000, 8).unbind(0)
    blocked, whole = (trace(lambda rows=rows: attention_received(q, k, 1.0, rows)).peak_bytes for rows in (100, 2000))
    assert whole > 2 * 2000 * 2000 * 4
    assert blocked < whole / 10


def test_the_towers_batches_are_its_images(tiny_model: Any) -> None:
    tower = FastTower(tiny_model)
    images = torch.randint(0, 256, (2, 3, 56, 84), dtype=torch.uint8)
    tokens, facts = tower.encode_watched(images)
    one, its = tower.encode_watched(images[1:])
    torch.testing.assert_close(tokens[1:], one)
    torch.testing.assert_close(facts.importance[1:], its.importance)
    assert attention.packing.cache_info().currsize > 0
