"""UniAD's open-loop protocol: values AT 1, 2, 3 s, every key frame counted.

Rules from OpenDriveLab/UniAD (dd161b22): dense_heads/planning_head_plugin/planning_metrics.py for the metric,
datasets/pipelines/occflow_label.py for what stands on the raster; equal to its outputs on the reference cases. Steps
without a recorded future stay in the denominator with an L2 of 0 and no collision: their raster is all 255, which is
not 0, so that the recorded drive "collides" everywhere.
Frame: lidar. Row = y forward, column = x right.
"""

import numpy as np
from jaxtyping import Float, Int

from stages.planning.base import SampleScore, Truth, at_time, averaged
from stages.planning.geometry import DETECTED_VEHICLES, among
from stages.planning.occupancy import Prepared, draw, ego_cells, measure, with_raster

TIMES = "the steps at 1, 2, 3 s; 0 where no future is recorded"


def prepare(truth: Truth) -> Prepared:
    """Return what all plans of a sample share; drawn are vehicles of the detection task at least 40 % visible then."""
    agents = truth.agents
    visible = agents.annotated[:, 1:] & (agents.visibilities[:, 1:] != 1)
    occupied = draw(agents, agents.lidar, among(agents, DETECTED_VEHICLES)[:, None] & visible)
    return with_raster(truth, occupied | ~truth.valid[:, None, None], cells)


def cells(path_m: Float[np.ndarray, "6 2"]) -> tuple[Float[np.ndarray, "6 32 2"], Int[np.ndarray, "6 2"]]:
    """Return cells of the footprint, and the one under the ego."""
    return ego_cells(path_m * np.array([1, -1], path_m.dtype))


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan."""
    return averaged(measure(plan_ego_m, prepared, cells), at_time, at_time)
