"""How methods rank and keep foreground, from four frames."""

from pathlib import Path
from typing import Any

import pytest

from stages.core.params import Params, read_params
from stages.planning.scoring import AUCS, RECALLS, SHARES, mean_shares
from stages.planning.tables import cells
from stages.report.page import Gallery
from stages.report.ranking import Ranking, blocks, columns, in_words, ranking, written

VALUES = {"recon": 0.9, "row_prior": 0.9, "random_keep": 0.5, "divprune": 0.7, "oracle": 1.0}


@pytest.fixture(scope="module")
def params() -> Params:
    whole = read_params(Path(__file__).parents[2] / "params.yaml")
    lists = {"pruners": ["none", "random_keep", "row_prior", "divprune"], "trained": ["recon"], "percents": [25, 50]}
    return whole.model_copy(update={"grid": whole.grid.model_copy(update=lists | {"references": ["oracle"]})})


def measured(params: Params) -> tuple[dict[tuple[str, int], list[dict[str, Any]]], list[dict[str, Any]]]:
    """Two scenes; recon's object AUC is 0.2 more in one and 0.2 less in the other; divprune does not rank."""
    samples: dict[tuple[str, int], list[dict[str, Any]]] = {("none", 0): []}
    for name, value in VALUES.items():
        for percent in params.grid.percents:
            known = RECALLS if name == "divprune" else SHARES
            rows = [{"token": f"t{i}", "scene": "ab"[i // 2], **dict.fromkeys(known, value)} for i in range(4)]
            if name == "recon":
                for i, row in enumerate(rows):
                    row["object_auc"] += 0.2 if i < 2 else -0.2
            samples[name, percent] = rows
    scores = [
        {"method": name, "pruned_percent": percent, "n": 4, **mean_shares(rows, 200, 0)}
        for (name, percent), rows in samples.items()
    ]
    return samples, scores


def found_of(params: Params) -> Ranking:
    found = ranking(*measured(params), params)
    assert found is not None
    return found


def test_a_method_has_one_row_with_its_recalls_at_each_ratio(params: Params) -> None:
    found = found_of(params)
    assert [row["method"] for row in found.methods] == ["random_keep", "row_prior", "divprune", "recon"]
    assert [row["method"] for row in found.rulers] == ["oracle"]
    line = cells(found.methods, columns(found.percents))[0]
    assert line == ["0.500 [0.500, 0.500]"] * 6


def test_a_method_that_does_not_rank_shows_a_dash_and_its_recalls(params: Params) -> None:
    found = found_of(params)
    assert cells(found.methods, columns(found.percents))[2] == ["–", "–", *["0.700 [0.700, 0.700]"] * 4]
    differences = cells(found.differences, columns(found.percents, "+"))
    assert differences[2] == ["–", "–", *["+0.200 [+0.200, +0.200]"] * 4]


def test_the_main_pruner_is_set_against_each_method_frame_by_frame(params: Params) -> None:
    rows = {row["method"]: row for row in found_of(params).differences}
    assert list(rows) == ["random_keep", "row_prior", "divprune"]
    assert rows["random_keep"]["foreground_auc_low"] == pytest.approx(0.4)
    assert rows["row_prior"]["object_auc"] == pytest.approx(0)
    assert (rows["row_prior"]["object_auc_low"], rows["row_prior"]["object_auc_high"]) == pytest.approx((-0.2, 0.2))


def test_words_tell_whom_it_beats_and_whom_it_does_not(params: Params) -> None:
    words = in_words(found_of(params).differences, 50)
    assert "In AUC of objects, recon is above random_keep; not told apart from row_prior." in words
    assert (
        "In objects kept at 50 % pruned, recon is above random_keep, divprune; not told apart from row_prior." in words
    )
    worse = [{"main": "recon", "method": "x"} | {f"{key}{end}": -0.1 for end in ("", "_low", "_high")
             for key in (*AUCS, *(f"{recall}_50" for recall in RECALLS))}]  # fmt: skip
    assert in_words(worse, 50).count("recon is below x.") == 4


def test_headings_cells_and_spans_agree(params: Params) -> None:
    chart, *tables = blocks(found_of(params))
    assert isinstance(chart, Gallery)
    for table in tables[:2]:
        lines = [line for group in table.groups for line in group.rows]
        assert {len(table.headings), sum(span for _, span in table.above)} == {len(line) for line in lines} == {7}


def test_without_truth_there_is_no_ranking_and_without_training_no_difference(params: Params) -> None:
    samples, scores = measured(params)
    unknown = [{key: value for key, value in row.items() if key not in RECALLS} for row in scores]
    assert ranking(samples, unknown, params) is None
    assert (blocks(None), written(None)) == ([], {})
    untrained = params.model_copy(update={"grid": params.grid.model_copy(update={"trained": []})})
    found = found_of(untrained)
    assert found.differences == []
    assert list(written(found)) == ["ranking"]
    assert [block.name for block in blocks(found)] == ["gallery", "table"]
