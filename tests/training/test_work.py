"""The closed form of training against the research's table, torch's counter and sums done by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.qwen import QWEN_3B, DecoderShape
from stages.core.params import TrainPruner, read_params
from stages.efficiency.counted import counted_prompt
from stages.efficiency.shapes import PAPER_MODEL, VisionShape, model_shape
from stages.training.model import build
from stages.training.work import training_flops

PAPER = read_params(PAPER_MODEL.parent / "params" / "paper.yaml").train_pruner


@pytest.fixture(scope="module")
def vision() -> VisionShape:
    return model_shape(json.loads(PAPER_MODEL.read_text())).vision


def options_of(**changes: Any) -> TrainPruner:
    """The paper's, with the weights drawn at random: no checkpoint is at hand."""
    return PAPER.model_copy(update={"init": "random", **changes})


def counted(layer: DecoderShape, grid: tuple[int, int], options: TrainPruner) -> int:
    """FLOPs that torch sees in a forward and backward pass of the real module over one image, on the meta device."""
    with torch.device("meta"):
        module = build(layer, options)
        tokens = torch.empty(1, grid[0] * grid[1], layer.width)
    with FlopCounterMode(display=False) as counter:
        rebuilt = module(tokens, grid)
        painted = [image.sum() for image in (rebuilt.fore, rebuilt.back) if image is not None]
        torch.stack(painted or [rebuilt.scores.sum()]).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    return int(counter.get_total_flops())


@pytest.mark.parametrize("grid", [(8, 8), (16, 16)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recompute": True},
        {"adversarial": False},
        {"objective": "mask_prediction"},
        {"decoder_width": 1024, "decoder_layers": 2, "pixels_per_token": 14},
        {"adversarial": False, "recompute": True, "decoder_width": 512},
    ],
)
def test_closed_form_is_what_torch_counts_at_the_3b_shapes(grid: tuple[int, int], changes: dict[str, Any]) -> None:
    options = options_of(**changes)
    assert training_flops(QWEN_3B, None, grid, options).done == counted(QWEN_3B, grid, options)


def test_encoding_costs_what_torch_counts_in_the_tower(vision: VisionShape) -> None:
    seen = counted_prompt(json.loads(PAPER_MODEL.read_text()), (16, 16), 1, 0)
    parts = [flops for name, flops in seen.items() if name in ("patch_embed", "merger") or name.startswith("vision_")]
    assert len(parts) == 5
    assert training_flops(QWEN_3B, vision, (16, 16), PAPER).vision == sum(parts)
    assert training_flops(QWEN_3B, None, (16, 16), PAPER).vision == 0


# Grids (h, w) and the columns of research/efficiency.md 4 in TFLOP, rounded there as written here.
@pytest.mark.parametrize(
    ("grid", "encoder", "trained", "total"),
    [
        ((8, 8), "0.33", "0.39", "0.72"), ((9, 16), "0.75", "0.88", "1.63"), ((16, 16), "1.34", "1.58", "2.92"),
        ((24, 24), "3.08", "3.60", "6.68"), ((32, 32), "5.63", "6.55", "12.18"), ((57, 57), "20.2", "23.1", "43.3"),
    ],
)  # fmt: skip
def test_an_image_costs_what_the_table_of_the_research_says(
    vision: VisionShape, grid: tuple[int, int], encoder: str, trained: str, total: str
) -> None:
    cost = training_flops(QWEN_3B, vision, grid, PAPER)
    found = (cost.vision, cost.needed - cost.vision, cost.needed)
    for flops, written in zip(found, (encoder, trained, total), strict=True):
        assert f"{flops / 1e12:.{len(written.split('.')[1])}f}" == written


def test_a_layer_of_hand_size_costs_the_sum_one_can_do_on_paper() -> None:
    layer = DecoderShape(width=4, heads=2, kv_heads=1, mlp=3, rope_theta=10.0, mrope_section=(0, 0, 1))
    small = options_of(decoder_width=2, decoder_layers=5, pixels_per_token=7, recompute=True)
    cost = training_flops(layer, None, (1, 2), small)
    weights = 4 * 4 + 2 * 4 * 2 + 4 * 4 + 3 * 4 * 3  # q; k, v; output; gated MLP
    assert cost.pruner == 3 * (2 * 3 * weights + 4 * 3 * 3 * 4 + 2 * 2 * 4)  # the query is a third token; scorer
    assert cost.inward == 3 * 2 * 2 * (2 * 4 * 2)  # two branches of two tokens
    inner = 2 * 2 + 2 * 2 * 2 + 2 * 2 + 3 * 2 * 1  # one head, an MLP of 3 / 2
    layer_flops = 2 * 2 * inner + 4 * 2 * 2 * 2
    assert cost.decoder == 3 * 2 * 5 * layer_flops
    assert cost.head == 3 * 2 * 2 * (2 * 2 * 3 * 7 * 7)
    assert cost.recomputed == 2 * 5 * (layer_flops - 2 * 2 * 2 * 1)  # all but the MLP's way down
    assert cost.done == cost.needed + cost.recomputed == sum(vars(cost).values())


def test_cached_tokens_save_46_percent_and_one_branch_half_of_the_decoder(vision: VisionShape) -> None:
    whole = training_flops(QWEN_3B, vision, (16, 16), PAPER)
    assert whole.vision / whole.done == pytest.approx(0.46, abs=0.005)
    alone = training_flops(QWEN_3B, vision, (16, 16), options_of(adversarial=False))
    assert (2 * alone.decoder, 2 * alone.head, alone.pruner) == (whole.decoder, whole.head, whole.pruner)
    told = training_flops(QWEN_3B, vision, (16, 16), options_of(objective="mask_prediction", decoder_width=999))
    assert replace(told, pruner=0, vision=0).done == 0
