"""Tables of driving from samples that one can add up by eye."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.params import Params, read_params
from stages.report import paper
from stages.report.driving import (
    bound_rows,
    difference,
    driver_rows,
    driving,
    event_rows,
    pool_rows,
    ranking_row,
    scenario_rows,
    summary,
)
from stages.report.inputs import Inputs

DRAWN = (200, 0)  # resamples, seed
EVENTS = ("red", "red", "lead", "lead")


def samples(*l2_m: float, hits: Sequence[bool] = (False,) * 4, **columns: Any) -> pd.DataFrame:
    """Frames of two scenes, alike at 1, 2 and 3 s; those that hit collide from 3 s on."""
    rows = [
        {"token": f"t{i}", "scene": "aabb"[i], "event": EVENTS[i]}
        | {f"l2_m_{s}s": value for s in (1, 2, 3)}
        | {f"l2_at_cm_{s}s": 100 * value * (s + 1) / 3 for s in (1, 2, 3)}
        | {f"collision_{s}s": s == 3 and hits[i] for s in (1, 2, 3)}
        | {f"intersection_{s}s": False for s in (1, 2, 3)}
        for i, value in enumerate(l2_m)
    ]
    names = ["token", "scene", "event", *(f"{n}_{s}s" for n in ("l2_m", "l2_at_cm") for s in (1, 2, 3))]
    return (pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)).assign(**columns)


@pytest.fixture(scope="module")
def whole() -> Params:
    return read_params(Path(__file__).parents[2] / "params.yaml")


def with_grid(params: Params, **lists: Any) -> Params:
    return params.model_copy(update={"grid": params.grid.model_copy(update=lists)})


def inputs_of(params: Params, l2_m: dict[str, tuple[float, ...]]) -> Inputs:
    """All rows of the grid; one that `l2_m` does not name drives as the unpruned driver."""
    cells = [(name, percent) for name in params.grid.names for percent in params.grid.ratios_of(name)]
    found = {cell: samples(*l2_m.get(cell[0], (1, 1, 1, 1))) for cell in cells}
    means = {f"{name}{end}": 50.0 for name in ("l2_cm_avg", "l2_at_cm_avg") for end in ("", "_low", "_high")}
    scores = [{"method": n, "pruned_percent": p, "n": 4, "unparsed": 0, **means} for n, p in cells]
    return Inputs(scores, found, {}, {}, {}, {}, {}, {}, {}, [])


def test_a_difference_is_that_of_the_same_frames_in_cm_and_points() -> None:
    row = difference(samples(2, 2, 4, 4, hits=(True,) * 4)[:3], samples(1, 1, 1, 1), DRAWN)
    assert (row["n"], row["l2"]) == (3, pytest.approx(500 / 3))
    assert (row["l2_low"], row["l2_high"]) == (100, 300)
    assert row["collision"] == pytest.approx(100 / 3)
    assert row["intersection"] == 0
    assert difference(samples(1, 1, 1, 1), samples(), DRAWN) == {"n": 0}


def test_an_entry_that_stands_twice_counts_twice() -> None:
    twice = pd.concat([samples(2, 2, 2, 2), samples(4)])
    assert difference(twice, samples(1, 1, 1, 1), DRAWN)["l2"] == pytest.approx((4 * 100 + 300) / 5)


SMALL = {
    "pruners": ["none", "divprune"],
    "trained": ["recon"],
    "references": ["oracle", "other_image", "black_image"],
    "bounds": ["recorded_future"],
    "percents": [25, 50],
}
FEW = {"pruners": ["none", "text_attention"], "percents": [50]}
WORSE = {"recon": (2.0, 2.0, 3.0, 3.0), "divprune": (0.5, 0.5, 1.5, 1.5)}  # in every scene; in one of two


def test_table_1_starts_with_controls_ends_with_bounds_and_pairs_each_row_with_the_unpruned_driver(
    whole: Params,
) -> None:
    params = with_grid(whole, **SMALL)
    every, methods, tables = driving(inputs_of(params, WORSE), params, papers=False)
    names = ["black_image", "other_image", "none", "divprune", "recon", "divprune", "recon", "recorded_future"]
    assert [row["method"] for row in tables["table1"].rows] == names
    rows = {(row["method"], row["pruned_percent"]): row for row in methods}
    assert (rows["recon", 50]["minus_none_n"], rows["recon", 50]["l2_minus_none"]) == (4, 150)
    assert (rows["recon", 50]["l2_minus_none_low"], rows["recon", 50]["l2_minus_none_high"]) == (100, 200)
    assert "l2_minus_none" not in rows["none", 0]
    assert "oracle" in {row["method"] for row in every}


def test_table_2_stands_in_the_papers_order_and_table_3_has_both_text_attentions(whole: Params) -> None:
    params = with_grid(whole, **FEW)
    *_, tables = driving(inputs_of(params, {"recon": (0.0, 0.0, 0.0, 0.0)}), params, papers=False)
    rows = tables["table2"].rows
    top = ["black_image", "other_image", "blind_floor", "none"]
    assert [row["method"] for row in rows] == [*top, "mask_prediction", "foreground_only", "recon"]
    printed = [(row["pixels"], row["adversarial"]) for row in paper.table(2)]
    assert [(row["pixels"], row["adversarial"]) for row in rows] == [(None, None)] * 4 + printed
    differences = tables["table2_differences"].rows
    assert [(row["method"], row["main"], row["l2"]) for row in differences] == [
        ("mask_prediction", "recon", 100),
        ("foreground_only", "recon", 100),
    ]
    assert [row["method"] for row in paper.beside(rows, paper.table(2))][-2:] == ["recon", "FastDriveVLA, the paper"]
    names = [row["method"] for row in tables["table3"].rows]
    assert names == [*top, "masked_text_attention", "text_attention", "recon"]


def test_tables_2_and_3_are_left_out_where_the_grid_lacks_their_rows_and_are_at_50_percent_or_the_middle_ratio(
    whole: Params,
) -> None:
    alone = with_grid(whole, **FEW | {"trained": ["recon"], "percents": [10, 30, 60]})
    *_, tables = driving(inputs_of(alone, {}), alone, papers=False)
    assert {"table2", "table3"} & set(tables) == {"table3"}
    assert {row["pruned_percent"] for row in tables["table3_differences"].rows} == {30}


def test_the_driver_stands_beside_its_controls_and_bounds() -> None:
    def row(method: str, l2_cm: float | None, percent: int = 0) -> dict[str, Any]:
        interval = {f"l2_at_cm_avg{end}": l2_cm for end in ("", "_low", "_high")}
        return {"method": method, "pruned_percent": percent, "n": 4, "unparsed": 1, **interval}

    rows = driver_rows([row("other_image", 160), row("none", 80), row("oracle", 90, 50), row("recorded_future", None)])
    assert [(part["method"], part.get("l2_m"), part.get("ratio")) for part in rows] == [
        ("other_image", 1.6, 2.0),
        ("none", 0.8, 1.0),
        ("recorded_future", None, None),
    ]


def test_events_have_their_own_rows_after_all_of_them() -> None:
    drives = {("none", 0): samples(1, 1, 2, 2), ("other_image", 0): samples(3, 3, 3, 3)}
    rows = event_rows(drives | {("blind_floor", 0): samples(2, 2, 1, 1)}, DRAWN)
    assert [(row["event"], row["n"], row["scenes"]) for row in rows] == [("all", 4, 2), ("lead", 2, 1), ("red", 2, 1)]
    assert [row["difference_m"] for row in rows] == pytest.approx([0, 1, -1])
    assert [row["none_m"] for row in rows] == pytest.approx([1.5, 2, 1])
    (alone, *_) = event_rows({("none", 0): samples(1, 1, 1, 1)}, DRAWN)
    assert alone["blind_floor_m"] is alone["other_image_m"] is None
    assert event_rows({("none", 0): samples(1, 1, 1, 1, event=None)}, DRAWN) == []


def test_the_oracle_bound_is_measured_from_the_unpruned_driver(whole: Params) -> None:
    params = with_grid(whole, **SMALL | {"pruners": ["none"], "trained": [], "percents": [50]})
    drives = {("none", 0): samples(1, 1, 1, 1), ("oracle", 50): samples(1, 1, 1, 1)}
    drives |= {("inverse", 50): samples(2, 2, 4, 4), ("black_image", 0): samples(3, 3, 3, 3)}
    control, best, worst = bound_rows(drives, params)
    assert (control["method"], best["method"], best["difference_m"]) == ("black_image", "oracle", 0)
    assert [worst[f"difference_m{end}"] for end in ("", "_low", "_high")] == pytest.approx([2, 1, 3])


def test_rows_of_the_drivers_own_pool_are_sorted_by_ratio_best_first() -> None:
    pruned = {"inverse_25": {"l2_m": 2.0}, "inverse_75": {"l2_m": 9.0}, "oracle_25": {"l2_m": 1.0}}
    rows = pool_rows({"pruned": pruned, "sees": {"none": {"l2_m": 1.5, "l2_low": 1.0, "l2_high": 2.0, "n": 3}}})
    assert [row["name"] for row in rows] == ["none", "oracle_25", "inverse_25", "inverse_75"]
    assert [rows[0][key] for key in ("n", "l2_m_low", "difference_m")] == [3, 1.0, None]
    assert pool_rows({}) == []


def test_a_method_is_set_against_the_unpruned_driver_on_the_frames_of_an_event(whole: Params) -> None:
    params = with_grid(whole, **SMALL | {"trained": [], "percents": [50]})
    drives = {("none", 0): samples(1, 1, 1, 1), ("divprune", 50): samples(1.5, 1.7, 0.6, 1.4)}
    lead, red = scenario_rows(drives, params)
    assert (lead["event"], lead["method"], lead["n"], lead["scenes"]) == ("lead", "divprune", 2, 1)
    assert (lead["l2_50"], lead["difference_50"]) == pytest.approx((1.0, 0.0))
    assert red["difference_50"] == pytest.approx(0.6)
    assert 0.5 <= red["difference_50_low"] <= red["difference_50_high"] <= 0.7
    assert scenario_rows({cell: part.assign(event=None) for cell, part in drives.items()}, params) == []


def test_a_ranking_has_its_auc_once_and_what_is_kept_by_ratio() -> None:
    rows = [{"method": "x", "pruned_percent": p, "n": 4, "foreground_auc": 0.8, "object_recall": p} for p in (25, 50)]
    row = ranking_row("x", rows)
    assert (row["foreground_auc"], row["object_recall_50"], row["object_auc"]) == (0.8, 50, None)


def test_summary_has_the_unpruned_driver_and_what_was_trained_flat_and_rounded() -> None:
    rows = [{"method": name, "pruned_percent": p, "l2_cm_avg": 12.34567} for name, p in (("recon", 25), ("fastv", 25))]
    training = {"recon": {"held_out": {"auc": 0.5}}}
    assert summary(rows, training) == {"recon_25_l2_cm": 12.3457, "recon_auc": 0.5}
