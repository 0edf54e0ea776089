"""Cells of the hardware guide by hand: what fits, what has a guess, and what stays without one."""

from pathlib import Path

import pytest

from stages.outlook.row import Work
from stages.outlook.timing import Peaks
from stages.params import read_params
from tests.hardware_page import DINO_SWIN_T, PROFILE, SAM_VIT_H, Cards, detector_bytes, fitted, gpu_rows, time_guess

ROOT = Path(__file__).parents[1]
TWO = Cards("two cards", 80e9, 2, Peaks("card", 100e12, 1e12))
NAMELESS = Cards("a card", 24e9, 1, None)


def test_the_weights_of_both_detectors_are_four_bytes_a_parameter() -> None:
    assert detector_bytes() == 4 * 641_090_608 + 4 * 172_839_682


def test_memory_says_whether_it_fits() -> None:
    assert fitted(21.54e9, 24e9) == "21.5 GB fits"
    assert fitted(24.1e9, 24e9).startswith("24.1 GB does not fit")


def test_flops_over_three_tenths_of_the_peak_and_bytes_over_half_make_hours() -> None:
    """30 TFLOP/s for 3 h and 0.5 TB/s for 1 h: 4 h, on two cards 2 h."""
    work = Work(30e12 * 3 * 3600, "FLOP, impromptu", "", flops=True, read_bytes=0.5e12 * 3600)
    assert time_guess(work, TWO) == "2 h (guess)"


def test_without_a_peak_or_a_formula_there_is_no_time() -> None:
    assert time_guess(Work(1e18, "FLOP, impromptu", "", flops=True), NAMELESS) == "no peak stated"
    assert time_guess(Work(15, "requests timed, impromptu", ""), TWO) == "no formula"
    assert time_guess(None, TWO) == "no formula"


def test_three_seconds_an_image_need_no_peak() -> None:
    assert time_guess(Work(12_000, "images by grounded_sam", ""), NAMELESS) == "10 h (guess)"


def test_every_cell_of_the_papers_grid_that_wants_a_gpu_is_in_a_row() -> None:
    params = read_params(ROOT / PROFILE)
    cells = {stage: 0 for stage in ("train_pruner", "plan_routes", "plan_trained", "plan_references")}
    for name, count in gpu_rows(params).values():
        stage = name.partition("@")[0]
        cells[stage] = cells.get(stage, 0) + count
    grid = params.grid
    assert cells["train_pruner"] == cells["plan_trained"] == len(grid.trained)
    assert (cells["plan_routes"], cells["plan_references"]) == (len(grid.pruners), len(grid.references))
    assert cells["profile_efficiency"] == len(grid.pruners) + len(grid.trained)


@pytest.mark.slow
def test_the_detectors_have_as_many_parameters_as_the_guide_says(tmp_path: Path) -> None:
    import torch

    from stages.masks.bench_models import BERT_BASE, write_text_encoder
    from stages.masks.grounding import dino, sam

    write_text_encoder(tmp_path, ["car"], BERT_BASE | {"vocab_size": 30522})
    with torch.device("meta"):
        segmenter = sam.build("vit_h")
    assert sum(each.numel() for each in segmenter.parameters()) == SAM_VIT_H
    assert sum(each.numel() for each in dino.build("swin_t", tmp_path).parameters()) == DINO_SWIN_T
