"""Waypoints as text and back, and plans made without an image."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from one_frame import make_frame

from stages.core.errors import DataError
from stages.core.io import write_manifest
from stages.vla.plans import BOUNDS, blind_plan, format_answer, parse_answer, read_blind_floor

FRAME = make_frame(Path("front.png"))  # 5 m/s
PATH = np.array([[1, 0], [2, 0.1], [3, 0.2], [4.5, -0.3], [5, 0.4], [6, 0.55]])


def test_an_answer_reads_back_as_it_was_written_and_zero_is_never_negative() -> None:
    text = format_answer(PATH, 2)
    assert text.startswith("<PLANNING>[1.00, 0.00], [2.00, 0.10]")
    np.testing.assert_allclose(parse_answer(text), PATH)
    assert "-0.0" not in format_answer(np.full((6, 2), -0.04), 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "<PLANNING>[1, 2]</PLANNING>",
        "<PLANNING>" + "[1, 2, 3], " * 6 + "</PLANNING>",
        "<PLANNING>" + "[1], " * 6 + "</PLANNING>",
        "<PLANNING>" + "[nan, 1], " * 6 + "</PLANNING>",
        "<PLANNING>" + "[x, y], " * 6 + "</PLANNING>",
        "</PLANNING>" + "[1, 2], " * 6 + "<PLANNING>",
    ],
)
def test_what_is_not_six_pairs_of_numbers_does_not_parse(text: str) -> None:
    assert parse_answer(text) is None


def straight(speed_mps: float) -> list[list[float]]:
    return [[speed_mps * step / 2, 0.0] for step in range(1, 7)]


def write_floor(folder: Path) -> None:
    table = {"speed_mps": [1.0, 4.0, 10.0], "waypoints_m": [straight(speed) for speed in (1.0, 4.0, 10.0)]}
    (folder / "blind_floor.json").write_text(json.dumps(table))
    write_manifest(folder, [folder / "blind_floor.json"], {})


@pytest.mark.parametrize(("speed_mps", "taken"), [(5.0, 4.0), (7.1, 10.0), (6.9, 4.0), (0.0, 1.0), (30.0, 10.0)])
def test_the_blind_floor_takes_the_nearest_speed(speed_mps: float, taken: float, tmp_path: Path) -> None:
    write_floor(tmp_path)
    frame = replace(FRAME, speed_mps=speed_mps)
    plan = blind_plan(frame, read_blind_floor(tmp_path)(frame))
    assert plan.waypoints_m.tolist() == straight(taken)
    assert (plan.parsed, plan.tokens_total, len(plan.kept)) == (True, 0, 0)


def test_a_missing_floor_and_one_of_another_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"blind_floor\.json.*dvc repro train_driver"):
        read_blind_floor(tmp_path)
    write_floor(tmp_path)
    (tmp_path / "blind_floor.json").write_text("{}")
    with pytest.raises(DataError, match="sha256"):
        read_blind_floor(tmp_path)


def test_the_bounds_go_straight_on_or_as_driven_until_the_last_known_position() -> None:
    assert BOUNDS["constant_velocity"](FRAME).tolist() == straight(5)
    future_m = np.full((6, 2), np.nan)
    future_m[:2] = [[1, 0], [2, 1]]
    path_m = BOUNDS["recorded_future"](replace(FRAME, future_ego_m=future_m))
    assert path_m.tolist() == [[1, 0]] + [[2, 1]] * 5
