"""The closed form of training against the research's table, torch's counter and sums done by hand; the projection."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_pruner import SHAPE, make_options
from torch.utils.flop_counter import FlopCounterMode

from stages.backbone.qwen import QWEN_3B, DecoderShape
from stages.core.params import TrainPruner, read_params
from stages.efficiency.counted import counted_prompt
from stages.efficiency.shapes import PAPER_MODEL, VisionShape, model_shape
from stages.training import work
from stages.training.model import build
from stages.training.work import Pace, Projection, training_flops

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


def test_a_wrong_formula_is_seen_by_the_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    options = make_options()
    assert training_flops(SHAPE, None, (4, 6), options).done == counted(SHAPE, (4, 6), options)
    monkeypatch.setattr(work, "TRAINED", 2)
    assert training_flops(SHAPE, None, (4, 6), options).done != counted(SHAPE, (4, 6), options)


PACE = Pace(images=200, encode_s=1.0, learn_s=2.0)


def test_hours_are_images_left_by_the_pace_of_all_processes() -> None:
    run = Projection(flops=2_920_000_000_000, pace=PACE, steps=36_000, batch_size=20, world=2, encodes=0)
    assert run.step_images_per_s == 100
    assert (run.hours, run.device_hours) == (1.0, 2.0)  # 720,000 images at 2 x 100 a second
    assert run.tera_flops_per_s == pytest.approx(292)
    assert str(run) == (
        "36000 steps x 20 images, 2.92 TFLOP an image; 100 images/s measured over 3.0 s (292 TFLOP/s): "
        "about 1 h from here on 2 processes (2 h in all)"
    )


def test_encoding_counts_once_before_the_first_step_or_at_each_draw() -> None:
    run = Projection(flops=10**9, pace=PACE, steps=36_000, batch_size=20, world=2, encodes=360_000)
    assert (run.encode_hours, run.hours) == (0.5, 1.5)  # 360,000 images of this process at 200 a second
    assert str(run).startswith("360000 images to encode first, about 30 min; 36000 steps x 20 images")
    assert replace(run, evaluated=120_000).hours == pytest.approx(1.5 + 400 / 3600)  # forward alone: a third of a step
    assert replace(run, evaluated=12).after(27_000) == replace(run, steps=9_000, evaluated=3)
    drawn = replace(run, encodes=None)
    assert (drawn.step_images_per_s, drawn.encode_hours, drawn.hours) == (200 / 3, 0.0, 1.5)


def test_a_short_run_is_told_in_minutes_or_seconds() -> None:
    run = Projection(flops=3_100_000_000, pace=Pace(114, 0.0, 1.2), steps=300, batch_size=32, world=1, encodes=0)
    assert str(run) == (
        "300 steps x 32 images, 3.1 GFLOP an image; 95 images/s measured over 1.2 s (0.294 TFLOP/s): "
        "about 1.68 min from here on 1 process"
    )
    assert str(replace(run, steps=10)).endswith("about 3 s from here on 1 process")
    assert str(replace(run, steps=0)).endswith("about 0 s from here on 1 process")
