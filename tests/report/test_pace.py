"""Samples a second, and hours one can multiply out."""

from typing import Any

import pytest

from stages.report.pace import in_words, pace_rows


def planned(samples: int, ratios: int, seconds: float) -> dict[str, Any]:
    run = {"projected": True, "samples": 6019, "cells": 16, "workers": 2, "hours": 1.5}
    pace = {"samples_per_s": samples / seconds, "answers_per_s": samples * ratios / seconds}
    return {"samples": samples, "ratios": ratios, "workers": 2, "seconds": seconds, "full_run": run, **pace}


def test_a_row_says_its_pace_and_its_projection() -> None:
    (row,) = pace_rows({"recon": planned(160, 3, 80.0)})
    assert (row["method"], row["samples_per_s"], row["answers_per_s"], row["full_hours"]) == ("recon", 2, 6, 1.5)


def test_the_sentence_is_of_all_rows_together() -> None:
    words = in_words({"none": planned(160, 1, 40.0), "recon": planned(160, 3, 120.0)})
    assert "2 samples/s and 4 answers/s a worker" in words
    assert pytest.approx(3.34, abs=0.01) == 6019 * 16 / 4 / 2 / 3600
    assert "6,019 samples in 16 cells of method and ratio take 3.34 h with 2 workers." in words
