"""A list of samples scored: every prune ratio of a pruner against one truth, which is read and prepared once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from stages.planning.base import Judge, Prepare
from stages.planning.plans import PlannedSample
from stages.planning.recalls import Sides, sides, token_aucs, token_recalls
from stages.planning.sample_lists import SampleList
from stages.planning.totals import driven_m, sample_row
from stages.planning.truth_store import Known
from stages.planning.truths import for_lidar_plans

Row = dict[str, Any]
Fitted = Callable[[UInt8[np.ndarray, "H W"]], UInt8[np.ndarray, "H2 W2"]]


@dataclass(frozen=True)
class Scored:
    """What came of a list."""

    counted: Mapping[str, int]  # sample token -> entries of the list; those that the protocol counts
    rows: Mapping[int, list[Row]]  # by prune ratio: one per entry, without the plans that are skipped


@dataclass(frozen=True)
class Scorer:
    """How a key frame is scored."""

    prepare: Prepare  # of the protocol
    judge: Judge
    unparsed: Literal["zeros", "skip"]
    follow: Literal["imu", "lidar"]  # the point of the car that plans are of
    fitted: Fitted  # a class map, as the driver's image was fitted

    def __call__(self, known: Known, plans: Mapping[int, PlannedSample]) -> dict[int, Row] | None:
        """A row by prune ratio, without the plans that are skipped; None where the protocol does not count the sample.

        How a pruner ranks is the same at every ratio: its scores lie beside the lowest.
        """
        truth = for_lidar_plans(known.truth) if self.follow == "lidar" else known.truth
        prepared = self.prepare(truth)
        if prepared is None:
            return None
        wanted, lowest = self._sides(known, plans), plans[min(plans)]
        about = {"event": known.event, **token_aucs(lowest, wanted.get(lowest.grid))}
        return {
            percent: {
                **sample_row(plan, truth, self.judge(driven_m(plan), prepared)),
                **token_recalls(plan, wanted.get(plan.grid)),
                **about,
            }
            for percent, plan in plans.items()
            if plan.parsed or self.unparsed == "zeros"
        }

    def _sides(self, known: Known, plans: Mapping[int, PlannedSample]) -> dict[tuple[int, int], Sides]:
        """Foreground and object tokens by token grid; none where no truth is known, or no plan saw an image."""
        if known.classes is None:
            return {}
        classes = self.fitted(known.classes)
        return {grid: sides(classes, grid) for grid in {plan.grid for plan in plans.values() if plan.tokens_total}}


def score_list(
    truths: Iterable[Known], samples: SampleList, plans: Mapping[int, Mapping[str, PlannedSample]], scorer: Scorer
) -> Scored:
    """Every entry of `samples`, in the order of `truths`; what is listed twice is scored once and counts twice.

    `plans`: by prune ratio, then by sample token.
    """
    counted: dict[str, int] = {}
    rows: dict[int, list[Row]] = {percent: [] for percent in plans}
    for known in truths:
        token = known.truth.token
        if token not in samples.times:
            continue
        found = scorer(known, {percent: part[token] for percent, part in plans.items()})
        if found is not None:
            counted[token] = samples.times[token]
            for percent, row in found.items():
                rows[percent] += [row] * counted[token]
    return Scored(counted, rows)
