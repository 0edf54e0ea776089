"""By scenario: rows of numbers that one can check by hand."""

from pathlib import Path
from typing import Any

from stages.core.params import read_params
from stages.planning.tables import Clear, Noise
from stages.report.scenarios import scenario_rows, scenario_sections, written

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
SMALL = PARAMS.model_copy(
    update={"grid": PARAMS.grid.model_copy(update={"pruners": ["none", "fastv"], "trained": [], "percents": [50]})}
)


def sample(token: str, event: str | None, cm: float) -> dict[str, Any]:
    errors = {f"l2_at_cm_{s}s": cm for s in (1, 2, 3)}
    return {"token": token, "scene": f"scene {token}", "event": event, **errors}


EVENTS = {"a": "red", "b": "red", "c": "curve", "d": "curve"}
SAMPLES = {
    ("none", 0): [sample(token, event, 100) for token, event in EVENTS.items()],
    ("fastv", 50): [
        sample("a", "red", 150),
        sample("b", "red", 170),
        sample("c", "curve", 60),
        sample("d", "curve", 140),
    ],
}


def test_a_method_is_held_against_the_unpruned_driver_on_the_frames_of_an_event() -> None:
    curve, red = scenario_rows(SAMPLES, SMALL)
    assert (curve["event"], curve["method"], curve["n"], curve["scenes"]) == ("curve", "fastv", 2, 2)
    assert (curve["l2_50"], round(curve["difference_50"], 9)) == (1.0, 0.0)
    assert round(red["difference_50"], 9) == 0.6
    assert 0.5 <= red["difference_50_low"] <= red["difference_50_high"] <= 0.7


def test_what_is_noise_is_grey_and_what_is_not_is_bold() -> None:
    (section,) = scenario_sections(scenario_rows(SAMPLES, SMALL), [50])
    gallery, table = section.blocks
    curve, red = (group.rows[0][2] for group in table.groups)
    assert (type(curve), type(red)) == (Noise, Clear)
    assert str(red).startswith("+0.60 [")
    assert gallery.pictures[0].alt.startswith("L2 minus the unpruned driver's by event")


def test_without_events_there_is_neither_section_nor_table() -> None:
    blind = {cell: [row | {"event": None} for row in rows] for cell, rows in SAMPLES.items()}
    rows = scenario_rows(blind, SMALL)
    assert (rows, scenario_sections(rows, [50]), written(rows, [50])) == ([], [], {})
