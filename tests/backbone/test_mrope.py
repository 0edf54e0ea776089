"""Position ids against transformers' own, as recorded in the reference cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.backbone.mrope import image_positions, prompt_positions

SINGLE = ["qwen_mrope_single_4x4", "qwen_mrope_single_114x114_1596px", "qwen_mrope_tall_20x8"]


@pytest.mark.parametrize("name", SINGLE)
def test_prompt_positions_equal_the_reference(name: str) -> None:
    case = np.load(Path("tests/cases") / f"{name}.npz")
    visual = case["visual_positions"]
    _, rows, columns = case["grid_thw"][0]
    before, after = int(visual[0]), len(case["input_ids"]) - int(visual[-1]) - 1
    ours = prompt_positions(before, (int(rows) // 2, int(columns) // 2), after)
    np.testing.assert_array_equal(ours[:, 0].numpy(), case["position_ids"])
    assert int(ours.max()) + 1 == int(case["next_position"])


def test_image_positions_of_a_two_by_three_grid() -> None:
    assert image_positions((2, 3), 1)[:, 0].tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]


def test_text_after_a_wide_image_starts_behind_its_longer_side() -> None:
    positions = prompt_positions(1, (2, 3), 2)[:, 0]
    assert positions[:, -2:].tolist() == [[4, 5]] * 3
    assert torch.equal(positions[:, :1], torch.zeros(3, 1, dtype=torch.int64))
