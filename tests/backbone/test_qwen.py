"""Patch rows, position ids, decoder layers, and the refusal of a folder without a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SHAPE, make_tiny_model
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from stages.backbone.qwen import QWEN_3B, DecoderStack, encode_images, load_model, patchify, token_grid
from stages.backbone.tokens import image_positions, positions_around
from stages.core.errors import DataError, ParamsError

SINGLE = ["qwen_mrope_single_4x4", "qwen_mrope_single_114x114_1596px", "qwen_mrope_tall_20x8"]


def test_patch_rows_equal_those_of_the_published_processor() -> None:
    image = torch.randint(0, 256, (1, 3, 56, 84), dtype=torch.uint8)
    theirs = Qwen2VLImageProcessor(do_resize=False)(image[0], return_tensors="pt")
    assert theirs["image_grid_thw"].tolist() == [[1, 4, 6]]
    torch.testing.assert_close(patchify(image), theirs["pixel_values"], atol=2e-6, rtol=0)


def test_a_size_that_is_no_multiple_of_28_is_refused() -> None:
    with pytest.raises(ParamsError, match="multiples of 28"):
        token_grid((1600, 900))
    assert token_grid((1596, 1596)) == (57, 57)


def test_the_patch_embedding_as_a_product_gives_the_same_tokens_and_gradients() -> None:
    visual = make_tiny_model().model.visual
    images = torch.randint(0, 256, (2, 3, 56, 84), dtype=torch.uint8)
    grid = torch.tensor([[1, 4, 6]] * 2)
    convolved = visual(patchify(images), grid_thw=grid).pooler_output.view(2, 6, -1)
    convolved.square().sum().backward()
    gradient = visual.patch_embed.proj.weight.grad.clone()
    visual.zero_grad()
    multiplied = encode_images(visual, images)
    multiplied.square().sum().backward()
    torch.testing.assert_close(multiplied, convolved, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(visual.patch_embed.proj.weight.grad, gradient, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", SINGLE)
def test_prompt_positions_equal_the_reference(name: str) -> None:
    case = np.load(Path("tests/cases") / f"{name}.npz")
    visual = case["visual_positions"]
    _, rows, columns = case["grid_thw"][0]
    before, after = int(visual[0]), len(case["input_ids"]) - int(visual[-1]) - 1
    ours = positions_around((before, after), ((int(rows) // 2, int(columns) // 2),))
    np.testing.assert_array_equal(ours[:, 0].numpy(), case["position_ids"])
    assert int(ours.max()) + 1 == int(case["next_position"])


def test_image_positions_of_a_two_by_three_grid() -> None:
    assert image_positions((2, 3), 1)[:, 0].tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]


def test_the_decoder_stack_attends_backwards_and_forwards() -> None:
    torch.manual_seed(0)
    stack = DecoderStack(SHAPE, 1).eval()
    hidden = torch.randn(1, 4, 24)
    positions = torch.arange(4).expand(3, 1, 4)
    changed = hidden.clone()
    changed[0, 3] += 1  # the last token
    with torch.no_grad():
        moved = (stack(changed, positions) - stack(hidden, positions)).abs().amax(dim=2)
    assert bool((moved > 1e-5).all()), "a causal layer would leave the first tokens as they were"


def test_one_layer_at_the_true_shape_has_its_published_size() -> None:
    with torch.device("meta"):
        stack = DecoderStack(QWEN_3B, 1)
    assert sum(p.numel() for p in stack.parameters()) == 77_076_992


def test_a_folder_without_a_checkpoint_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro train_driver"):
        load_model(tmp_path)
