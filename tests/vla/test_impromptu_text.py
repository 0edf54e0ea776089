"""Answers as they come: the official cases are judged in tests/reference; here what counts as parsed, and remarks."""

import numpy as np
import pytest

from stages.vla.impromptu import parse_answer

SIX = ", ".join(f"[{i}.0, 0.5]" for i in range(1, 7))
LEGEND = "The output is formatted as [x, y]: "


def test_an_answer_as_taught_is_six_points_and_no_remark() -> None:
    answer = parse_answer(f"<PLANNING>{LEGEND}{SIX}</PLANNING>")
    assert answer.waypoints_m.tolist() == [[i, 0.5] for i in range(1, 7)]
    assert (answer.parsed, answer.remark) == (True, "")


@pytest.mark.parametrize(
    ("text", "last", "remark"),
    [
        ("<PLANNING>[x, y]: [1, 0], [2, 0], [3, 1]</PLANNING>", [3, 1], "fewer points"),
        (f"<PLANNING>{SIX}, [7.0, 1], [8.0, 1], [9.0, 1]</PLANNING>", [6, 0.5], "more points"),
        (f"[9.9, 9.9], {SIX}.", [6, 0.5], "no tags"),
        (f"<PLANNING>{SIX} and so on", [6, 0.5], "no tags"),
        ("<PLANNING>[1, 2, 3], [4, 5, 6]</PLANNING>", [4, 5], "fewer points"),
    ],
)
def test_other_answers_are_read_as_the_official_evaluator_reads_them(text: str, last: list[float], remark: str) -> None:
    answer = parse_answer(text)
    assert answer.waypoints_m[-1].tolist() == last
    assert (answer.parsed, answer.remark, len(answer.waypoints_m)) == (True, remark, 6)


def test_without_tags_the_first_point_is_lost() -> None:
    assert parse_answer("[1.0, 0.0], [2.0, 0.0], [3.0, 0.0].").waypoints_m[0].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    "text",
    ["", "<PLANNING></PLANNING>", "<PLANNING>[1, 2], [3, 4, 5]</PLANNING>", "<PLANNING>[1], [2]</PLANNING>", "[x, y]"],
)
def test_what_the_evaluator_fails_on_is_parked_and_not_parsed(text: str) -> None:
    answer = parse_answer(text)
    assert not answer.waypoints_m.any()
    assert (answer.parsed, answer.remark, answer.waypoints_m.shape) == (False, "no points", (6, 2))


@pytest.mark.parametrize("number", ["nan", "inf", "-Infinity", "1e999"])
def test_an_answer_of_no_finite_number_goes_through_and_is_not_parsed(number: str) -> None:
    answer = parse_answer(f"<PLANNING>[{number}, 0], [2, 0]</PLANNING>")
    assert not np.isfinite(answer.waypoints_m[0, 0])
    assert answer.waypoints_m[1:].tolist() == [[2, 0]] * 5
    assert (answer.parsed, answer.remark) == (False, "not finite")


def test_the_server_repeats_nothing_and_knows_no_exponents() -> None:
    answer = parse_answer("[1.0, 0.0], [1e1, 2], [4,.5]", "neuroncap_server")
    assert answer.waypoints_m.tolist() == [[1, 0], [4, 0.5]]
    assert not answer.parsed
    assert len(parse_answer("[1.0, 0.0]" * 9, "neuroncap_server").waypoints_m) == 6
    assert not parse_answer("[1.0, 0.0], [1-2, 3]", "neuroncap_server").waypoints_m.any()


@pytest.mark.parametrize(
    ("mode", "point", "second"),
    [
        ("dx-dy", "[0.5, 2]", [4, -1]),
        ("polar", "[2, 90]", [0, 2]),
        ("dist-theta", "[2, 90]", [0, 4]),
        ("dist-dtheta", "[2, 90]", [-2, 2]),
        ("dist-curvature", "[2, 0]", [2, 0]),
    ],
)
def test_other_formats_lead_where_their_words_say(mode: str, point: str, second: list[float]) -> None:
    answer = parse_answer(f"<PLANNING>{', '.join([point] * 6)}</PLANNING>", mode)
    np.testing.assert_allclose(answer.waypoints_m[1], second, atol=1e-12)
