"""Waypoints as text and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.vla.answers import format_answer, parse_answer

PATH = np.array([[1, 0], [2, 0.1], [3, 0.2], [4.5, -0.3], [5, 0.4], [6, 0.55]])


def test_an_answer_reads_back_as_it_was_written() -> None:
    text = format_answer(PATH, 2)
    assert text.startswith("<PLANNING>[1.00, 0.00], [2.00, 0.10]")
    np.testing.assert_allclose(parse_answer(text), PATH)


def test_zero_is_never_negative() -> None:
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
        "<PLANNING>" + "[1e999, 1], " * 6 + "</PLANNING>",
        "<PLANNING>" + "[x, y], " * 6 + "</PLANNING>",
        "</PLANNING>" + "[1, 2], " * 6 + "<PLANNING>",
    ],
)
def test_what_is_not_six_pairs_of_numbers_does_not_parse(text: str) -> None:
    assert parse_answer(text) is None


@given(st.text(max_size=300))
def test_any_text_parses_or_does_not_and_never_fails(text: str) -> None:
    path = parse_answer("<PLANNING>" + text + "</PLANNING>")
    assert path is None or (path.shape == (6, 2) and bool(np.isfinite(path).all()))
