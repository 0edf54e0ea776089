"""ST-P3's open-loop protocol: means over all steps up to 1, 2, 3 s, of key frames with two before and six after them.

Rules from the copy of ST-P3 in E2E-AD/AD-MLP (4b93ba08): deps/stp3/stp3/planning_metrics.py for the metric,
datas/NuscenesData.py for samples and objects; equal to its outputs on the reference cases
(tests/reference/families/stp3.py). Three metrics see the first 2, 4 and 6 steps, each a mean over samples, then steps.
Frame: level. Row = x forward, column = y left. The official loader draws a future raster in the ego frame of that time
and warps it to the frame of now cell by cell; ours is drawn in the frame of now.
"""

import numpy as np
from jaxtyping import Bool, Float

from stages.planning.base import NO_RATE, Agents, SampleScore, Truth, mean_up_to
from stages.planning.occupancy import (
    CELL_M,
    FIRST_CENTER_M,
    Prepared,
    Steps,
    box_hits,
    center_hits,
    distances_m,
    draw,
    footprint_cells,
    official,
)

TIMES = "means of the steps up to 1, 2, 3 s"
PAST_STEPS = 2


def prepare(truth: Truth) -> Prepared | None:
    """Return what is the same for all plans of the sample; None when it is not counted."""
    if not truth.valid.all() or truth.past_steps < PAST_STEPS:
        return None
    agents = truth.agents
    here = obstacles(agents)[:, None] & agents.annotated[:, 1:]
    return with_raster(truth, draw(agents, here, agents.centers_level_m, agents.yaws_level_rad).transpose(0, 2, 1))


def obstacles(agents: Agents) -> Bool[np.ndarray, " A"]:
    """Return which objects ST-P3 draws.

    Vehicles and humans that were over 40 % visible in one of the three frames it sees.
    """
    kinds = [("vehicle" in name) or ("human" in name) for name in agents.categories]
    return np.array(kinds, bool) & agents.seen


def with_raster(truth: Truth, occupied: Bool[np.ndarray, "6 200 200"]) -> Prepared:
    """Return the inputs with rasters already drawn."""
    hits = box_hits(footprint_cells(official(truth.future_m)), occupied)
    return Prepared(truth.future_m, truth.valid, occupied, hits)


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    steps = measure(plan_ego_m, prepared)
    return SampleScore(mean_up_to(steps.l2_m), mean_up_to(steps.box_hits), NO_RATE, counted=True)


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Steps:
    """Return the values that the official code adds up over all samples."""
    path_m, new = official(plan_ego_m), ~prepared.recorded_hits
    cells = ((path_m - FIRST_CENTER_M) / CELL_M).astype(np.int64)
    return Steps(
        l2_m=distances_m(plan_ego_m, prepared),
        center_hits=center_hits(cells, prepared.occupied) & new,
        box_hits=box_hits(footprint_cells(path_m), prepared.occupied) & new,
    )
