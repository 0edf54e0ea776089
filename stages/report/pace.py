"""How fast the rows were planned, and what the paper's full run would take at that pace. Pure."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

COLUMNS = {
    "Row": "{method}",
    "Samples": "{samples}",
    "Ratios": "{ratios}",
    "Workers": "{workers}",
    "Samples / s": "{samples_per_s:.3g}",
    "Answers / s": "{answers_per_s:.3g}",
    "6,019 x 16 at this pace (h)": "{full_hours:.3g}",
}
CAPTION = (
    "Planning, measured: seconds of the shards added up, loading the driver left out; a sample is seen once and "
    "answered at each ratio. The last column is a projection, no measurement."
)


def pace_rows(throughput: Mapping[str, Row]) -> list[Row]:
    """A row per planned row of the grid, with the hours of the projected run."""
    names = ("samples", "ratios", "workers", "samples_per_s", "answers_per_s")
    return [
        {"method": name, **{key: record.get(key) for key in names}, "full_hours": record["full_run"]["hours"]}
        for name, record in throughput.items()
    ]


def in_words(throughput: Mapping[str, Row]) -> str:
    """Samples a second over all rows, and the full run at that pace: its 16 cells of 6,019 samples."""
    samples = sum(record["samples"] for record in throughput.values())
    answered = sum(record["samples"] * record["ratios"] for record in throughput.values())
    seconds = sum(record["seconds"] for record in throughput.values())
    first = next(iter(throughput.values()))
    run, workers = first["full_run"], first["workers"]
    hours = run["samples"] * run["cells"] / (answered / seconds) / workers / 3600
    return (
        f"Planning went at {samples / seconds:.3g} samples/s and {answered / seconds:.3g} answers/s a worker. "
        f"Projected from that, {run['samples']:,} samples in {run['cells']} cells of method and ratio take "
        f"{hours:.3g} h with {workers} worker{'s' if workers > 1 else ''}."
    )
