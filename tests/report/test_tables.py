"""Tables as text: formats, shading, files; the paper's tables as printed; how the numbers were made."""

import csv
import io
import json
from pathlib import Path

import pytest

from stages.core.params import read_params
from stages.planning.tables import to_markdown
from stages.report import paper
from stages.report.inputs import setting
from stages.report.page import Clear, Noise, Sheet, block, cells, exported, interval

PRINTED = json.loads((Path(__file__).parents[1] / "cases/paper/tables.json").read_text())
PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
MINUS = interval("d", "+.1f")
ROWS = [
    {"method": "100 %_a", "n": 3, "d": 1.0, "d_low": 0.5, "d_high": 1 / 3},
    {"method": "b", "n": None, "d": 1.0, "d_low": -1.0, "d_high": 2.0},
]
SHEET = Sheet("5 % & more.", ROWS, {"Method": "{method}", "Span | N": "{n}", "Span | d [95 %]": MINUS})


def test_a_difference_is_grey_where_its_interval_includes_0_and_bold_where_not() -> None:
    assert cells([{"x": 1.0, "y": float("nan")}, {}], {"": "{x:.1f} / {y:.1f}"}) == [["1.0 / –"], ["–"]]
    (_, _, clear), (_, _, noise) = cells(ROWS, SHEET.columns)
    assert (type(clear), type(noise)) == (Clear, Noise)
    row = {"l2_cm_avg": 4.0, "l2_minus_none": 1.0, "l2_minus_none_low": 0.5, "l2_minus_none_high": 2.0}
    assert type(cells([row], {"": "{l2_cm_avg}"}, "{0}_minus_none")[0][0]) is Clear
    assert type(cells([row], {"": "{l2_cm_avg}"})[0][0]) is str
    of_scenes = [[row | {"scenes": scenes} for row in ROWS] for scenes in (4, 5)]
    assert [[type(c[2]) for c in cells(rows, SHEET.columns)] for rows in of_scenes] == [[str, Noise], [Clear, Noise]]


def test_csv_has_every_value_unrounded_and_people_see_the_columns() -> None:
    texts = exported(SHEET)
    first, second = csv.DictReader(io.StringIO(texts["csv"]))
    assert float(first["d_high"]) == 1 / 3
    assert (first["n"], second["n"]) == ("3", "")
    assert "**+1.0 [+0.5, +0.3]**" in texts["md"]
    assert "Span d [95 %]" in texts["md"]
    assert texts["md"].endswith("5 % & more.\n")
    assert r"100 \%\_a" in texts["tex"]
    assert r"\bfseries" in texts["tex"]
    assert r"\caption{5 \% \& more.}" in texts["tex"]
    assert r"\end{table}" in texts["tex"]


def test_on_the_page_headings_stand_under_their_span_and_rows_in_their_groups() -> None:
    table = block(SHEET, "x", stacked=True)
    assert (table.above, table.headings) == ([("", 1), ("Span", 2)], ["Method", "N", "d [95 %]"])
    assert table.groups[0][1][0][2] == "+1.0\n[+0.5, +0.3]"
    rows = [row | {"pruned_percent": p} for row, p in zip(ROWS, (0, 50), strict=True)]
    shown = block(Sheet("", rows, {"Method": "{method}", "Pruned (%)": "{pruned_percent}"}))
    assert [title for title, _ in shown.groups] == ["Unpruned", "50 % pruned"]
    assert shown.headings == ["Method"]


def test_markdown_of_any_rows() -> None:
    lines = to_markdown([{"phase": "prefill", "x": 1.23456}, {"phase": "a|b", "tokens": 812}]).splitlines()
    assert "1.235" in lines[2]
    assert "a\\|b" in lines[3]


@pytest.mark.parametrize(("number", "rows"), [(1, 16), (2, 3), (3, 3)])
def test_tables_1_to_3_are_quoted_and_all_66_rel_cells_come_out_of_our_function(number: int, rows: int) -> None:
    ours = paper.table(number)
    assert len(ours) == rows
    for row, printed in zip(ours, PRINTED[f"table{number}"], strict=True):
        assert row["method"] == printed["method"]
        for name, column in paper.METRICS.items():
            assert [row[f"{column}_{s}"] for s in paper.HORIZONS] == printed[column]
            assert f"{row[f'{name}_rel']:.1f}" == f"{printed[f'{name}_rel']:.1f}", (row["method"], name)


def test_rel_is_to_the_unpruned_driver_marked_where_n_differs_and_none_without_events() -> None:
    def row(method: str, scale: float, n: int = 4) -> dict[str, object]:
        return {"method": method, "n": n, **{f"{c}_{s}s": s * scale for c in paper.METRICS.values() for s in (1, 2, 3)}}

    rows = paper.with_rel([row("none", 1), row("recon", 2), row("recorded_future", 0), row("fastv", 2, 3)])
    assert [part["l2_rel"] for part in rows] == [100, 50, None, 50]
    assert [part["rel_mark"] for part in rows] == ["", "", "", "†"]
    assert paper.with_rel([row("recon", 2)])[0]["l2_rel"] is None


def test_the_papers_numbers_stand_beside_ours_only_in_its_own_setting() -> None:
    theirs = {"protocol": "omnidrive", "split": "val", "listed": 6019}
    rows = [{"n": 6019, "tokens_total": 3249}, {"n": 6019, "tokens_total": None}]  # a bound has no tokens
    assert paper.same_setting(theirs, rows, "impromptu")
    assert not paper.same_setting(theirs, rows, "toy")
    assert not paper.same_setting(theirs | {"listed": 160}, rows, "impromptu")
    assert not paper.same_setting(theirs, [rows[0] | {"n": 5119}, rows[1]], "impromptu")
    ours = [{"method": name, "pruned_percent": p} for name, p in (("none", 0), ("recon", 25), ("row_prior", 25))]
    names = [row["method"] for row in paper.beside(ours, paper.table(1))]
    assert names == ["none", "Impromptu-VLA, the paper", "recon", "FastDriveVLA, the paper", "row_prior"]


def test_the_setting_has_every_choice_that_a_number_depends_on() -> None:
    about = {"protocol": "omnidrive", "split": "world_val", "unparsed": "skip", "samples": "impromptu", "listed": 6019}
    about |= {"repeated": 7, "incomplete": 900, "not_counted": 1200, "answers_follow": "lidar", "departs": "stp3 too"}
    rows = [{"method": "none", "pruned_percent": 0, "n": 112}]
    rows += [{"method": "recon", "pruned_percent": 75, "n": 110, "unparsed": 2, "skipped": 2}]
    text = setting(about, rows, PARAMS, "abc123")
    assert "omnidrive; split world_val" in text
    for part in ("toy", "LIDAR_TOP", "6,019 entries", "900 without", "1,200 left", "stp3 too"):
        assert part in text
    for part in ("N = 110 to 112", "2 skipped", "recon 75 %: 2", "2,000 resamples, seed 1", "seed 5", "commit abc123"):
        assert part in text
    bare = setting({"protocol": "omnidrive", "split": "val", "unparsed": "zeros"}, rows[:1], PARAMS, "")
    assert "N = 112 in every row" in bare
