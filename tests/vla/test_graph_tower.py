"""The tower as functions: the stock tower's tokens for any size of image, in as many attention calls as lengths."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import VISION, make_tiny_model

from stages.backbone.qwen import Model, build_model
from stages.backbone.tower import FastTower
from stages.vla.fast.vision import GraphTower, Vision, attention, layout_of, run_tower, vision_of
from stages.vla.recipe.shape import config


@pytest.fixture(scope="module")
def model() -> Model:
    from tiny import LANGUAGE

    torch.manual_seed(0)
    stock = build_model(config(VISION | {"depth": 4, "full_attention": [1, 3]}, LANGUAGE, positions=64)).eval()
    with torch.no_grad():
        for parameter in stock.model.visual.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.2 if parameter.ndim > 1 else 0.7))
    return stock


def images(B: int, size_px: tuple[int, int]) -> torch.Tensor:
    W, H = size_px
    random = torch.Generator().manual_seed(W)
    return torch.randint(0, 256, (B, 3, H, W), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size_px", [(112, 112), (28, 28), (336, 196), (252, 140), (84, 364), (280, 28)])
def test_tokens_are_those_of_the_stock_tower(model: Model, size_px: tuple[int, int], fused: bool) -> None:
    stock, ours = FastTower(model), GraphTower(model, fused=fused)
    for B in (1, 2, 1):
        wanted = stock.encode(images(B, size_px))
        torch.testing.assert_close(ours.encode(images(B, size_px)), wanted, atol=1e-4, rtol=1e-4)
        assert wanted.std() > 0.01
    assert ours.encoded_images == stock.encoded_images == 4


def test_windows_of_a_5_by_6_image_lie_by_length(model: Model) -> None:
    vision = vision_of(model.model.visual)
    layout = layout_of(vision, (5, 6))
    assert layout.windows == ((1, 64), (1, 32), (1, 16), (1, 8))
    assert layout.order[16:24].tolist() == [4, 5, 10, 11, 16, 17, 22, 23]
    assert layout.order[layout.back].tolist() == list(range(30))


def test_at_1596_px_there_are_225_windows_of_three_lengths(model: Model) -> None:
    assert layout_of(vision_of(model.model.visual), (57, 57)).windows == ((196, 64), (28, 16), (1, 4))


def test_a_block_makes_one_attention_call_for_each_length(model: Model, attention_calls: Callable[[], list]) -> None:
    tower = GraphTower(model)
    attention_calls()
    tower.encode(images(1, (140, 168)))
    assert len(attention_calls()) == 2 * 4 + 2


def test_a_window_sees_nothing_but_itself() -> None:
    random = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 10, 2, 4, generator=random)
    mixed = attention(query, key, value, ((2, 4), (1, 2)))
    value[:, 4:8] += 1  # the second window's
    again = attention(query, key, value, ((2, 4), (1, 2)))
    assert [bool(moved) for moved in (mixed != again).any(dim=2)[1]] == [False] * 4 + [True] * 4 + [False] * 2


def test_watched_it_is_the_fast_tower(model: Model) -> None:
    wanted, its = FastTower(model).encode_watched(images(2, (112, 84)))
    tokens, facts = GraphTower(model).encode_watched(images(2, (112, 84)))
    assert torch.equal(tokens, wanted)
    assert torch.equal(facts.importance, its.importance)


def test_nothing_is_read_back_on_the_way() -> None:
    """Tensors on the meta device hold no numbers: whoever asks for one fails, as it would wait on a GPU."""
    stock = make_tiny_model()
    layout = layout_of(vision_of(stock.model.visual), (5, 6))
    on_meta: Any = stock.model.visual.to("meta")
    vision: Vision = vision_of(on_meta)
    parts = {name: part.to("meta") if isinstance(part, torch.Tensor) else part for name, part in vars(layout).items()}
    rows = torch.empty(120, 1176, device="meta")
    assert run_tower(vision, type(layout)(**parts), rows, 1).shape == (1, 30, 24)
