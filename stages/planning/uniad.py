"""UniAD's open-loop protocol: values AT 1, 2, 3 s, every key frame counted.

Rules from OpenDriveLab/UniAD (dd161b22): dense_heads/planning_head_plugin/planning_metrics.py for the metric,
datasets/pipelines/occflow_label.py for what stands on the raster; equal to its outputs on the reference cases
(tests/reference/families/uniad.py). Steps without a recorded future stay in the denominator with an L2 of 0 and no
collision: their raster is all 255, which is not 0, so that the recorded drive "collides" everywhere.
Frame: lidar. Row = y forward, column = x right.
"""

import numpy as np
from jaxtyping import Bool, Float

from stages.planning.base import NO_RATE, Agents, SampleScore, Truth, at_time
from stages.planning.occupancy import (
    CELL_M,
    DETECTED_VEHICLES,
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

TIMES = "the steps at 1, 2, 3 s; 0 where no future is recorded"


def prepare(truth: Truth) -> Prepared:
    """Return what is the same for all plans of the sample."""
    agents = truth.agents
    here = obstacles(agents)[:, 1:] & agents.annotated[:, 1:]
    return with_raster(truth, draw(agents, here, agents.centers_lidar_m, agents.yaws_lidar_rad), ~truth.valid)


def obstacles(agents: Agents) -> Bool[np.ndarray, "A 7"]:
    """Return which objects UniAD draws at which step.

    Vehicles of the detection task that are at least 40 % visible then.
    """
    vehicle = np.array([name in DETECTED_VEHICLES for name in agents.categories], bool)
    return vehicle[:, None] & (agents.visibilities != 1)


def with_raster(truth: Truth, occupied: Bool[np.ndarray, "6 200 200"], ignored: Bool[np.ndarray, " 6"]) -> Prepared:
    """Return the inputs with rasters already drawn; the `ignored` ones are all 255."""
    future_m, occupied = np.nan_to_num(truth.future_m), occupied | ignored[:, None, None]
    return Prepared(future_m, truth.valid, occupied, box_hits(_footprint(future_m), occupied))


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan."""
    steps = measure(plan_ego_m, prepared)
    return SampleScore(at_time(steps.l2_m), at_time(steps.box_hits), NO_RATE, counted=True)


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Steps:
    """Return the values that the official code adds up over all samples."""
    path_m, new = official(plan_ego_m), ~prepared.recorded_hits
    cells = ((_rows_columns(path_m) - FIRST_CENTER_M) / CELL_M).astype(np.int64)
    return Steps(
        l2_m=distances_m(plan_ego_m, prepared),
        center_hits=center_hits(cells, prepared.occupied) & new,
        box_hits=box_hits(_footprint(path_m), prepared.occupied) & new,
    )


def _footprint(path_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, "6 32 2"]:
    return footprint_cells(_rows_columns(official(path_m)))


def _rows_columns(path_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, "6 2"]:
    """Forward and right, of x forward, y left."""
    return path_m * np.array([1, -1], path_m.dtype)
