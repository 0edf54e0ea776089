"""ST-P3's open-loop protocol: means over all steps up to 1, 2, 3 s, of key frames with two before and six after them.

Rules from the copy of ST-P3 in E2E-AD/AD-MLP (4b93ba08): deps/stp3/stp3/planning_metrics.py for the metric,
datas/NuscenesData.py for samples and objects; equal to its outputs on the reference cases. Three metrics see the first
2, 4 and 6 steps, each a mean over samples, then steps.
Frame: level. Row = x forward, column = y left. The official loader draws a future raster in the ego frame of that time
and warps it to the frame of now cell by cell; ours is drawn in the frame of now.
"""

import numpy as np
from jaxtyping import Float

from stages.planning.base import SampleScore, Truth, averaged, mean_up_to
from stages.planning.geometry import starting
from stages.planning.occupancy import Prepared, draw, ego_cells, measure, with_raster

TIMES = "means of the steps up to 1, 2, 3 s"
PAST_STEPS = 2


def prepare(truth: Truth) -> Prepared | None:
    """Return what is the same for all plans of the sample; None when it is not counted.

    Drawn are vehicles and humans that were over 40 % visible in one of the three frames that ST-P3 sees.
    """
    if not truth.valid.all() or truth.past_steps < PAST_STEPS:
        return None
    agents = truth.agents
    here = (starting(agents, "vehicle.", "human.") & agents.seen)[:, None] & agents.annotated[:, 1:]
    return with_raster(truth, draw(agents, agents.level, here).transpose(0, 2, 1), ego_cells)


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    return averaged(measure(plan_ego_m, prepared, ego_cells), mean_up_to, mean_up_to)
