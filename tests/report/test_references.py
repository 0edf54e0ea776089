"""Rows of the driver's table and of the ruler from samples that one can add up by eye."""

from pathlib import Path

import pytest

from stages.core.params import read_params
from stages.report.judge import order_in_words
from stages.report.references import driver_rows, event_rows, order_rows, paired, recorded, reference_rows, ruler_rows

SCENES = ("a", "a", "b", "b")
DRAWN = (200, 0)  # resamples, seed


def samples(*l2_m: float, events: tuple[str | None, ...] = ("red", "red", "lead", "lead")) -> list[dict]:
    """Four samples of two scenes whose errors at 1, 2, 3 s are a third more, the mean and a third less."""
    return [
        {"token": f"t{i}", "scene": SCENES[i], "event": events[i],
         **{f"l2_at_cm_{s}s": 100 * value * (s + 1) / 3 for s in (1, 2, 3)}}
        for i, value in enumerate(l2_m)
    ]  # fmt: skip


def test_a_paired_difference_is_that_of_the_same_samples():
    row = paired(samples(1, 2, 3, 4), samples(0.5, 1.5, 2.5, 3.5)[:3], *DRAWN)
    assert (row["n"], row["l2_m"]) == (3, pytest.approx(2))
    assert [row[f"difference_{end}"] for end in ("m", "low", "high")] == pytest.approx([0.5] * 3)
    assert paired(samples(1, 2, 3, 4), [], *DRAWN) == {"n": 0}


def test_the_driver_is_set_beside_its_controls_and_bounds():
    def row(method: str, l2_cm: float | None, percent: int = 0) -> dict:
        interval = {f"l2_at_cm_avg{end}": l2_cm for end in ("", "_low", "_high")}
        return {"method": method, "pruned_percent": percent, "n": 4, "unparsed": 1, **interval}

    rows = driver_rows(
        [row("none", 80.0), row("oracle", 90.0, 50), row("other_image", 160.0), row("recorded_future", None)]
    )
    assert [(part["method"], part.get("l2_m"), part.get("ratio")) for part in rows] == [
        ("other_image", 1.6, 2.0),
        ("none", 0.8, 1.0),
        ("recorded_future", None, None),
    ]


def test_events_have_their_own_rows_after_all_of_them():
    drives = {
        ("none", 0): samples(1, 1, 2, 2),
        ("other_image", 0): samples(3, 3, 3, 3),
        ("blind_floor", 0): samples(2, 2, 1, 1),
    }
    rows = event_rows(drives, *DRAWN)
    assert [(row["event"], row["n"], row["scenes"], row["other_image_m"]) for row in rows] == [
        ("all", 4, 2, pytest.approx(3)),
        ("lead", 2, 1, pytest.approx(3)),
        ("red", 2, 1, pytest.approx(3)),
    ]
    assert [row["difference_m"] for row in rows] == pytest.approx([0, 1, -1])
    assert [row["none_m"] for row in rows] == pytest.approx([1.5, 2, 1])


def test_without_controls_or_truth_the_events_lack_them():
    (row, *_) = event_rows({("none", 0): samples(1, 1, 1, 1)}, *DRAWN)
    assert row["blind_floor_m"] is row["other_image_m"] is None
    assert "difference_m" not in row
    assert event_rows({("none", 0): samples(1, 1, 1, 1, events=(None,) * 4)}, *DRAWN) == []


def test_the_ruler_is_measured_from_the_unpruned_driver():
    drives = {
        ("none", 0): samples(1, 1, 1, 1),
        ("oracle", 50): samples(1, 1, 1, 1),
        ("inverse", 50): samples(2, 2, 4, 4),
    }
    best, worst = ruler_rows(drives, ["oracle", "inverse"], [50], *DRAWN)
    assert (best["method"], best["pruned_percent"], best["l2_m"], best["difference_m"]) == ("oracle", 50, 1, 0)
    assert (best["difference_low"], best["difference_high"]) == (0, 0)
    assert [worst[f"difference_{end}"] for end in ("m", "low", "high")] == pytest.approx([2, 1, 3])


def test_the_ruler_starts_with_the_driver_without_its_image():
    drives = {(name, 0): samples(1, 1, 1, 1) for name in ("none", "other_image", "black_image")}
    rows = ruler_rows(drives | {("oracle", 50): samples(2, 2, 2, 2)}, ["oracle"], [50], *DRAWN)
    assert [row["method"] for row in rows] == ["black_image", "other_image", "oracle"]


@pytest.mark.parametrize(("random_m", "words"), [(2.0, "best first, holds: L2"), (5.0, "best first, does not hold")])
def test_the_order_in_words_is_what_the_data_say(random_m, words):
    l2_m = {"oracle": 1.0, "random_keep": random_m, "inverse": 4.0}
    (row,) = order_rows({(name, 25): samples(*[value] * 4) for name, value in l2_m.items()}, [25], *DRAWN)
    assert words in order_in_words(row)
    assert f"costs {4 - random_m:+.2f} m" in order_in_words(row)


def test_key_frames_that_end_before_3_s_are_left_out_of_every_table():
    whole = read_params(Path(__file__).parents[2] / "params.yaml")
    few = {"pruners": ["none", "random_keep"], "trained": [], "references": ["oracle", "inverse"], "percents": [50]}
    params = whole.model_copy(update={"grid": whole.grid.model_copy(update=few)})
    cells = [("none", 0), ("random_keep", 50), ("oracle", 50), ("inverse", 50)]
    drives = {cell: samples(1, 2, 3, 4) for cell in cells}
    for part in drives.values():
        part[1] |= {"l2_at_cm_3s": None}
    assert [row["token"] for row in recorded(drives["none", 0])] == ["t0", "t2", "t3"]
    scores = {"method": "none", "pruned_percent": 0, "n": 4, "unparsed": 0, "l2_at_cm_avg": None}
    found = reference_rows(drives, [scores], params)
    assert {row["n"] for row in found.ruler} == {3}
    assert [(row["event"], row["n"]) for row in found.events] == [("all", 3), ("lead", 2), ("red", 1)]
    assert [row["oracle"] for row in found.order] == [pytest.approx(8 / 3)]
