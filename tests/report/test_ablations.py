"""Tables 2 and 3 from samples that one can add up by eye, and what may be said of them."""

from pathlib import Path
from typing import Any

import pytest

from stages.core.params import Params, read_params
from stages.planning.tables import cells
from stages.report import comparisons, paper
from stages.report.ablations import Comparison, attentions, averages, compared_at, difference, in_words, objectives
from stages.report.captions import Setting

CHECKOUT = Path(__file__).parents[2]
ELSEWHERE = Setting("Protocol x.", papers=False)
TOP = ["black_image", "other_image", "blind_floor", "none"]
DRAWN = (200, 0)  # resamples, seed
SCENES = ("a", "a", "b", "b")


def samples(*l2_m: float, hits: tuple[bool, ...] = (False,) * 4) -> list[dict[str, Any]]:
    """Four samples of two scenes, alike at 1, 2 and 3 s; those that hit collide from 3 s on."""
    return [
        {"token": f"t{i}", "scene": SCENES[i], **{f"l2_m_{s}s": value for s in (1, 2, 3)},
         **{f"collision_{s}s": s == 3 and hits[i] for s in (1, 2, 3)},
         **{f"intersection_{s}s": False for s in (1, 2, 3)}}
        for i, value in enumerate(l2_m)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def params() -> Params:
    return read_params(CHECKOUT / "params.yaml")


def with_grid(params: Params, **lists: list[Any]) -> Params:
    return params.model_copy(update={"grid": params.grid.model_copy(update=lists)})


def driven(params: Params, percent: int = 50) -> tuple[dict[tuple[str, int], list[dict]], list[dict]]:
    """Samples and rows of all methods, of which the main pruner drives best."""
    names = params.grid.names
    ratios = {name: percent if params.grid.ratios_of(name) != [0] else 0 for name in names}
    found = {(name, p): samples(*[1.0 if name == "recon" else 2.0] * 4) for name, p in ratios.items()}
    return found, [{"method": name, "pruned_percent": p, "n": 4} for name, p in ratios.items()]


def test_a_samples_average_is_table_1s() -> None:
    assert averages(samples(1, 2, 3, 4), "l2").tolist() == [100, 200, 300, 400]
    assert averages(samples(1, 1, 1, 1, hits=(True, False, False, False)), "collision")[0] == pytest.approx(100 / 3)


def test_a_difference_is_that_of_the_same_frames_in_cm_and_points() -> None:
    row = difference(samples(2, 2, 4, 4, hits=(True,) * 4)[:3], samples(1, 1, 1, 1), *DRAWN)
    assert (row["n"], row["l2"]) == (3, pytest.approx(500 / 3))
    assert (row["l2_low"], row["l2_high"]) == (100, 300)
    assert row["collision"] == pytest.approx(100 / 3)
    assert (row["intersection"], row["intersection_same"], row["l2_same"]) == (0, True, False)
    assert difference(samples(1, 1, 1, 1), [], *DRAWN) == {"n": 0}


@pytest.mark.parametrize(
    ("l2_m", "words"),
    [
        ((2, 2, 3, 3), "other is worse in L2 with its whole interval"),
        ((0, 0, 0.5, 0.5), "other is better in L2 with its whole interval"),
        ((0, 0, 3, 3), "the interval includes 0 for L2: these 4 frames do not tell the two apart"),
        ((1, 1, 1, 1), "every frame is the same for L2, collision and intersection"),
    ],
)
def test_words_say_what_the_intervals_allow(l2_m: tuple[float, ...], words: str) -> None:
    row = {"method": "other", "main": "recon", **difference(samples(*l2_m), samples(1, 1, 1, 1), *DRAWN)}
    assert words in in_words(row)
    assert in_words(row).startswith("other and recon: ")


def test_without_a_common_frame_nothing_is_said_of_measures() -> None:
    assert in_words({"method": "other", "main": "recon", "n": 0}) == "other and recon have no frame in common."


def test_table_2_stands_in_the_papers_order_and_its_columns_come_from_params(params: Params) -> None:
    found = objectives(*driven(params), params)
    assert found is not None
    printed = [(row["pixels"], row["adversarial"]) for row in paper.table(2)]
    assert [(row["pixels"], row["adversarial"]) for row in found.rows] == [(None, None)] * 4 + printed
    assert [row["method"] for row in found.rows] == [*TOP, "mask_prediction", "foreground_only", "recon"]
    assert [(row["method"], row["main"], row["l2"]) for row in found.differences] == [
        ("mask_prediction", "recon", 100),
        ("foreground_only", "recon", 100),
    ]
    other = params.model_copy(update={"trained": params.trained | {"foreground_only": {}}})
    again = objectives(*driven(other), other)
    assert again is not None
    assert {row["adversarial"] for row in again.rows[4:]} == {"yes"}


@pytest.mark.parametrize(("percents", "percent"), [([25, 50, 75], 50), ([50], 50), ([10, 30, 60], 30)])
def test_the_ratio_is_the_papers_or_the_middle_one_and_the_caption_says_which(
    params: Params, percents: list[int], percent: int
) -> None:
    assert compared_at(percents) == percent
    mine = with_grid(params, percents=percents)
    found = objectives(*driven(mine, percent), mine)
    assert found is not None
    caption = comparisons.objectives_section(found, "recon", ELSEWHERE).blocks[0].caption
    assert caption.startswith(f"{percent} % pruned, " + ("as in" if percent == 50 else "the middle ratio"))


def test_table_3_is_the_masked_and_the_plain_text_attention_beside_the_main_pruner(params: Params) -> None:
    found = attentions(*driven(params), params)
    assert found is not None
    assert [row["method"] for row in found.rows] == [*TOP, "masked_text_attention", "text_attention", "recon"]
    assert len(found.differences) == 2


def test_a_table_is_left_out_where_the_grid_lacks_its_rows(params: Params) -> None:
    alone, untrained = with_grid(params, trained=["recon"]), with_grid(params, trained=[])
    unmasked = with_grid(params, references=["oracle", "inverse"])
    assert objectives(*driven(alone), alone) is None
    assert attentions(*driven(alone), alone) is not None
    assert [attentions(*driven(p), p) for p in (untrained, unmasked)] == [None, None]


def test_the_papers_rows_stand_apart_and_labelled_unless_the_setting_is_its_own() -> None:
    found = Comparison(50, [{"method": "recon", "pruned_percent": 50, "pixels": "yes"}], [])
    first, *_, last = comparisons.objectives_section(found, "recon", ELSEWHERE).blocks
    assert [row[0] for row in first.groups[0].rows] == ["recon"]
    assert last.caption.startswith("Not comparable with the table above")
    first, *_, last = comparisons.objectives_section(found, "recon", Setting("Protocol x.", papers=True)).blocks
    assert [row[0] for row in first.groups[0].rows] == ["recon", "FastDriveVLA, the paper"]
    assert first.groups[0].rows[1][3] == "14.08"
    assert "The paper" not in getattr(last, "caption", "")


def test_every_heading_stands_under_its_span() -> None:
    found = Comparison(50, [{"method": "recon", "pixels": "yes"}], [{"method": "x", "main": "recon", "n": 0}])
    for section in (
        comparisons.objectives_section(found, "recon", ELSEWHERE),
        comparisons.attentions_section(found, "recon", ELSEWHERE),
    ):
        for table in (section.blocks[0], section.blocks[-1]):
            assert sum(span for _, span in table.above) == len(table.headings) == len(table.groups[0].rows[0])
            assert table.above[1] == ("L2 (cm)", 5)


def test_files_have_the_columns_of_table_1() -> None:
    found = Comparison(50, [{"method": "recon", "pixels": "yes"}], [])
    files = comparisons.written({"table2": found, "table3": None}, ELSEWHERE)
    assert list(files) == ["table2", "table2_differences"]
    rows, columns = files["table2"]
    assert cells(rows, columns)[0][:3] == ["recon", "yes", "–"]
