"""The door to transformers: patch rows, tower, decoder stack, refusals."""

from pathlib import Path

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from stages.backbone.patches import patchify, token_grid
from stages.backbone.qwen import QWEN_3B, DecoderShape, DecoderStack, Model, VisionTower, load_model
from stages.core.errors import DataError, ParamsError

SMALL = DecoderShape(width=24, heads=2, kv_heads=1, mlp=32, rope_theta=10.0, mrope_section=(2, 2, 2))


def test_patch_rows_equal_those_of_the_published_processor() -> None:
    image = torch.randint(0, 256, (1, 3, 56, 84), dtype=torch.uint8)
    theirs = Qwen2VLImageProcessor(do_resize=False)(image[0], return_tensors="pt")
    assert theirs["image_grid_thw"].tolist() == [[1, 4, 6]]
    torch.testing.assert_close(patchify(image), theirs["pixel_values"], atol=2e-6, rtol=0)


def test_a_size_that_is_no_multiple_of_28_is_refused() -> None:
    with pytest.raises(ParamsError, match="multiples of 28"):
        token_grid((1600, 900))
    assert token_grid((1596, 1596)) == (57, 57)


def test_a_batch_of_images_encodes_as_its_singles(tiny_model: Model) -> None:
    tower = VisionTower(tiny_model)
    images = torch.randint(0, 256, (3, 3, 56, 84), dtype=torch.uint8)
    together = tower.encode(images)
    assert together.shape == (3, 6, tower.width)
    torch.testing.assert_close(together[1:2], tower.encode(images[1:2]))
    assert tower.encoded_images == 4


def test_the_fingerprint_changes_with_one_weight(tiny_model: Model) -> None:
    before = VisionTower(tiny_model).fingerprint
    assert VisionTower(tiny_model).fingerprint == before
    with torch.no_grad():
        next(tiny_model.model.visual.parameters()).view(-1)[0] += 1
    assert VisionTower(tiny_model).fingerprint != before


def test_the_decoder_stack_attends_backwards_and_forwards() -> None:
    torch.manual_seed(0)
    stack = DecoderStack(SMALL, 1).eval()
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
