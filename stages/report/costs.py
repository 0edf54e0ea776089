"""What the page says of accuracy against cost, and of what it costs to choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.params import Params
from stages.report import budget, choosing, phases, tradeoff
from stages.report.ablations import Tables
from stages.report.figures import svg
from stages.report.inputs import Inputs
from stages.report.page import Gallery, Picture, Section, Table, Words
from stages.report.scatter import tradeoff as chart
from stages.report.sections import by_ratio, main_method

Row = dict[str, Any]

CAPTION = (
    "Each method at each ratio. FLOPs with the vision tower, until the first answer token. Milliseconds of a whole "
    "answer: each method was timed in its own process beside the unpruned driver, so they are the unpruned median of "
    "all processes ({unpruned}) divided by the method's own speed-up, with that one's 95 % interval. On the front: the "
    "costs for which no other row is as cheap and drives with a lower L2."
)
ALT = (
    "L2 and Collision against TFLOPs, MFLOPs and milliseconds for every method and prune ratio, with the Pareto front; "
    "the numbers are in the table below"
)
NOISE = (
    "Points on a front are the best measured, not the best for sure: where the vertical bars (95 % intervals) of two "
    "points overlap widely, another draw of scenes may turn them round; paired differences are in the table."
)


@dataclass(frozen=True)
class Costs:
    """Rows of the tables, and the recommendation under the budget where there is one."""

    points: list[Row]
    choosing: list[Row]
    phases: list[Row]
    phases_of: str
    advice: Row | None


def costs(inputs: Inputs, scores: Sequence[Row], params: Params) -> Costs:
    """All of it from scores of driving.py and the profiles."""
    points = tradeoff.points(scores, inputs.efficiency, inputs.latency)
    advice = budget.advice(points, inputs.samples, params)
    shown = main_method(params)
    record = inputs.latency[shown]
    return Costs(
        points,
        choosing.choosing_rows(inputs.latency, inputs.efficiency),
        phases.phase_rows(record),
        phases.caption(shown, record["ceilings"]),
        advice,
    )


def written(found: Costs) -> Tables:
    """The tables, for people and machines."""
    return {
        "tradeoff": (found.points, tradeoff.COLUMNS),
        "choosing": (found.choosing, choosing.COLUMNS),
        "table4_phases": (found.phases, phases.COLUMNS),
    }


def costs_sections(found: Costs, params: Params, setting: str) -> list[Section]:
    """The chart with its fronts and the recommendation; then what choosing costs, and where the time goes."""
    unpruned = next((row["ms"] for row in found.points if row["method"] == tradeoff.UNPRUNED and row["ms"]), None)
    caption = CAPTION.format(unpruned="–" if unpruned is None else f"{unpruned:.2f} ms")
    blocks: list[Words | Gallery | Table] = []
    if found.advice:
        blocks.append(Words(budget.in_words(found.advice, found.points)))
    picture = Picture(svg(chart(found.points, params.profile_efficiency.budget_ms)), "svg+xml", ALT)
    blocks += [
        Gallery([picture]),
        Words(NOISE),
        by_ratio(f"{caption} {setting}", found.points, tradeoff.COLUMNS, "tradeoff"),
    ]
    chosen: list[Words | Table] = [
        Words(choosing.in_words(found.choosing)),
        by_ratio(choosing.CAPTION, found.choosing, choosing.COLUMNS, "choosing"),
        by_ratio(found.phases_of, found.phases, phases.COLUMNS, "table4_phases"),
    ]
    return [Section("Accuracy against cost", blocks), Section("What it costs to choose", chosen)]
