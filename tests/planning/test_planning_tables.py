import csv
import io
import json
from pathlib import Path
from typing import Any

from stages.planning.tables import (
    HORIZONS,
    METRICS,
    TABLE_1,
    Clear,
    Noise,
    relative,
    table_1,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)

PAPER = json.loads((Path(__file__).parents[1] / "cases/paper/tables.json").read_text())
BASELINE = PAPER["table1"][0]


def test_all_66_printed_rels_come_out_of_the_function_that_the_report_calls() -> None:
    printed = [BASELINE, *PAPER["table1"][1:], *PAPER["table2"], *PAPER["table3"]]
    rows = table_1([_totals(row) for row in printed], BASELINE["method"])
    ours = [f"{row[f'{name}_rel']:.1f}" for row in rows for name in METRICS]
    assert len(ours) == 66
    assert ours == [f"{row[f'{name}_rel']:.1f}" for row in printed for name in METRICS]


def _totals(printed: dict[str, Any]) -> dict[str, Any]:
    """A row of the paper under the names of ours."""
    values = {
        f"{column}_{s}": value
        for column in METRICS.values()
        for s, value in zip(HORIZONS, printed[column], strict=True)
    }
    return {"method": printed["method"], **values}


def test_a_method_that_never_fails_has_no_rel() -> None:
    assert relative([0.0, 0.1, 0.6], [0.0, 0.0, 0.0]) is None


def row(method: str, percent: int, scale: float) -> dict[str, Any]:
    """A row of totals whose values are 1, 2, 3 times `scale`."""
    values = {
        f"{name}_{s}s": s * scale for name in ("l2_cm", "collision_pct", "intersection_pct") for s in (1, 2, 3)
    } | {
        f"{name}_{s}s": s for name in ("collision_events", "intersection_events") for s in (1, 2, 3)
    }  # fmt: skip
    averages = {
        f"{name}_avg{end}": 2 * scale
        for name in ("l2_cm", "collision_pct", "intersection_pct")
        for end in ("", "_low", "_high")
    }
    tokens = {"tokens_kept": 42, "tokens_total": 84, "n": 112, "unparsed": 1}
    return {"method": method, "pruned_percent": percent, **tokens, **values, **averages}


def test_table_1_relates_every_row_to_the_unpruned_driver() -> None:
    rows = table_1([row("none", 0, 1.0), row("recon", 50, 2.0), row("recorded_future", 0, 0.0)])
    assert [part["l2_rel"] for part in rows] == [100, 50, None]
    assert [part["collision_rel"] for part in rows] == [100, 50, None]


def test_without_the_unpruned_driver_there_is_no_rel() -> None:
    assert table_1([row("recon", 50, 2.0)])[0]["l2_rel"] is None


def test_markdown_of_table_1_has_counts_and_intervals() -> None:
    head, rule, first, second = to_markdown(table_1([row("none", 0, 1.0), row("recon", 50, 2.0)]), TABLE_1).splitlines()
    assert head.startswith("| Method | Pruned (%) | Tokens | N | Unparsed | L2 1 s (cm) |")
    assert rule.count("---") == head.count("|") - 1 == len(TABLE_1)
    assert second.startswith("| recon | 50 | 42 / 84 | 112 | 1 | 2.00 | 4.00 | 6.00 | 4.00 [4.00, 4.00] | 50.0 |")
    assert "| 1 / 2 / 3 |" in first


def test_an_absent_value_is_a_dash_and_a_cell_of_absent_values_is_one_dash() -> None:
    rows = table_1([row("none", 0, 1.0), {**row("recorded_future", 0, 0.0), "tokens_kept": None, "tokens_total": None}])
    assert to_markdown(rows, TABLE_1).splitlines()[3].startswith("| recorded_future | 0 | – |")
    assert " & -- & " in to_latex(rows, TABLE_1)


def test_any_rows_can_be_printed() -> None:
    rows = [{"phase": "prefill_ms", "x | y": 1.23456}, {"phase": "decode", "tokens": 812}]
    assert to_markdown(rows) == (
        "| phase | x \\| y | tokens |\n| --- | ---: | ---: |\n| prefill_ms | 1.235 | – |\n| decode | – | 812 |\n"
    )
    assert r"prefill\_ms & 1.235 & -- \\" in to_latex(rows)


def test_csv_has_every_value_unrounded_under_its_name() -> None:
    rows = table_1([row("none", 0, 1 / 3)])
    (read,) = csv.DictReader(io.StringIO(to_csv(rows)))
    assert list(read) == list(rows[0])
    assert float(read["l2_cm_1s"]) == 1 / 3
    assert to_csv([{"a": 1}, {"b": None}]) == "a,b\n1,\n,\n"


def test_latex_is_a_whole_tabular() -> None:
    lines = to_latex([{"method": "100 %_a", "n": 3}]).splitlines()
    assert lines == [
        r"\begin{tabular}{lr}", r"\toprule", r"method & n \\", r"\midrule", r"100 \%\_a & 3 \\", r"\bottomrule",
        r"\end{tabular}",
    ]  # fmt: skip


def test_signs_that_latex_does_not_know_are_spelled_out() -> None:
    assert to_latex([{"recon − none": "100 × 2"}]).splitlines()[2:5:2] == [r"recon $-$ none \\", r"100 $\times$ 2 \\"]


def test_a_caption_stands_below_markdown_inside_latex_and_above_html() -> None:
    rows, caption = [{"method": "recon", "n": 3}], "Protocol omnidrive; 5 % & more"
    assert to_markdown(rows, caption=caption).endswith("| recon | 3 |\n\nProtocol omnidrive; 5 % & more\n")
    first, *_, last_but_one, last = to_latex(rows, caption=caption).splitlines()
    assert (first, last_but_one) == (r"\begin{table}", r"\caption{Protocol omnidrive; 5 \% \& more}")
    assert last == r"\end{table}"
    assert "<caption>Protocol omnidrive; 5 % &amp; more</caption>" in to_html(rows, caption=caption)


def test_html_is_a_page_with_every_cell_escaped() -> None:
    page = to_html([{"<b>": "<script>alert(1)</script>", "n": None}])
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "<b>" not in page
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td>–</td>" in page


def test_noise_is_grey_and_what_is_clear_is_bold_in_every_format() -> None:
    rows, lines = [{"a": "x", "b": 1, "c": 2}], [["x", Noise("1"), Clear("2")]]
    assert "| x | 1 | **2** |" in to_markdown(rows, lines=lines)
    assert r"x & \textcolor{gray}{1} & \textbf{2} \\" in to_latex(rows, lines=lines)
    assert '<td>x</td><td class="noise">1</td><td class="clear">2</td>' in to_html(rows, lines=lines)


def test_a_rel_over_other_samples_is_marked() -> None:
    rows = table_1([row("none", 0, 1.0), row("recon", 25, 2.0), row("fastv", 25, 2.0) | {"n": 110}])
    assert [part["rel_mark"] for part in rows] == ["", "", "†"]
    assert to_csv([rows[2]]).count("†") == 1
    lines = to_latex(rows, {"Method": TABLE_1["Method"], "L2 rel.": TABLE_1["L2 rel."]}).splitlines()
    assert lines[4:7] == [r"none & 100.0 \\", r"recon & 50.0 \\", r"fastv & 50.0$\dagger$ \\"]
