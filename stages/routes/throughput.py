"""How fast a row was planned, and what a full run would take at that pace: measured on this machine, then projected."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FULL_SAMPLES, FULL_CELLS = 6019, 16  # nuScenes' val key frames; rows times ratios of Table 1


def throughput_path(row: str) -> Path:
    """Where the pace of a row of the grid lies."""
    return Path("results/throughput") / f"{row}.json"


def throughput(notes: Sequence[Mapping[str, Any]], ratios: int, workers: int) -> dict[str, Any]:
    """Counts and pace of a row from the notes of its shards, planned at `ratios` prune ratios by so many workers.

    `seconds` are those of the shards added up, so a resumed run and one with more workers say the same, but for what
    workers on one machine take from each other. Loading the driver is left out.
    """
    samples = sum(len(note["tokens"]) for note in notes)
    seconds = sum(float(note["seconds"]) for note in notes)
    counts, questions = Counter[str](), Counter[str]()
    remarks: dict[str, Counter[str]] = {}
    for note in notes:
        counts.update(note["counts"])
        questions.update(note["questions"])
        for percent, found in note["remarks"].items():
            remarks.setdefault(percent, Counter()).update(found)
    return {
        "samples": samples,
        "ratios": ratios,
        "shards": len(notes),
        "workers": workers,
        **counts,
        "questions": dict(questions),
        "remarks": {percent: dict(found) for percent, found in remarks.items()},
        "seconds": seconds,
        "samples_per_s": samples / seconds,
        "answers_per_s": samples * ratios / seconds,
        "full_run": projection(samples * ratios / seconds, workers),
    }


def projection(answers_per_s: float, workers: int) -> dict[str, Any]:
    """Hours that 6,019 samples in 16 cells would take with so many workers, each at this row's pace: no measurement."""
    hours = FULL_SAMPLES * FULL_CELLS / answers_per_s / workers / 3600
    return {"projected": True, "samples": FULL_SAMPLES, "cells": FULL_CELLS, "workers": workers, "hours": hours}
