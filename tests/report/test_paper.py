"""The paper's tables, quoted; and when its rows may stand among ours."""

import json
from pathlib import Path

import pytest

from stages.planning.tables import HORIZONS, METRICS
from stages.report import paper

PRINTED = json.loads((Path(__file__).parents[1] / "cases/paper/tables.json").read_text())


@pytest.mark.parametrize(("number", "rows"), [(1, 16), (2, 3), (3, 3)])
def test_all_66_rel_cells_come_out_of_the_function_that_makes_our_tables(number: int, rows: int) -> None:
    ours = paper.table(number)
    assert len(ours) == rows
    for row, printed in zip(ours, PRINTED[f"table{number}"], strict=True):
        for name in METRICS:
            assert f"{row[f'{name}_rel']:.1f}" == f"{printed[f'{name}_rel']:.1f}", (row["method"], name)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_tables_1_to_3_are_quoted_as_printed(number: int) -> None:
    for row, printed in zip(paper.table(number), PRINTED[f"table{number}"], strict=True):
        assert row["method"] == printed["method"]
        for name, column in METRICS.items():
            assert [row[f"{column}_{s}"] for s in HORIZONS] == printed[column]
            assert row[f"{column}_avg"] == printed[f"{name}_avg"]


def test_table_2_says_what_training_learned_from() -> None:
    rows = {row["ours"]: (row["pixels"], row["adversarial"]) for row in paper.table(2)}
    assert rows == {"mask_prediction": ("no", "yes"), "foreground_only": ("yes", "no"), "recon": ("yes", "yes")}


def test_table_4_is_quoted_and_its_ratio_is_printed_nowhere_as_ours() -> None:
    first, *_, last = paper.table_4()
    assert (first["tflops"], last["tflops"]) == (38.2, 5.1)
    assert (last["method"], last["tokens"], last["prefill_ms"], last["decode_ms"]) == ("FastDriveVLA", 812, 51, 18)


def test_the_papers_numbers_stand_beside_ours_only_in_its_own_setting() -> None:
    theirs = {"protocol": "omnidrive", "split": "val", "listed": 6019}
    rows = [{"n": 6019, "tokens_total": 3249}, {"n": 6019, "tokens_total": None}]  # a bound has no tokens
    assert paper.same_setting(theirs, rows, "impromptu")
    assert not paper.same_setting(theirs, rows, "toy")
    for other in ({"listed": 160}, {"protocol": "uniad"}, {"split": "train"}, {"listed": None}):
        assert not paper.same_setting(theirs | other, rows, "impromptu")
    for other in ({"n": 5119}, {"tokens_total": 324}):  # without incomplete futures; at 512 x 512 pixels
        assert not paper.same_setting(theirs, [rows[0] | other, rows[1]], "impromptu")


def test_a_row_of_the_paper_follows_ours_of_the_same_method_and_ratio() -> None:
    ours = [{"method": name, "pruned_percent": p} for name, p in (("none", 0), ("recon", 25), ("row_prior", 25))]
    names = [row["method"] for row in paper.beside(ours, paper.table(1))]
    assert names == ["none", "Impromptu-VLA, the paper", "recon", "FastDriveVLA, the paper", "row_prior"]
