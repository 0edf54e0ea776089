"""VAD's open-loop protocol: means over all steps up to 1, 2, 3 s, of key frames with a complete future.

Rules from hustvl/VAD (1688c4b1): VAD/planner/metric_stp3.py for the metric, tools/data_converter/ and configs/VAD/ for
samples and objects; equal to its outputs on the reference cases.
Frame: lidar, drawn with y forward as UP: row = 200 - y forward, column = x right. Its numbers of categories belong to a
table with a `noise` row before the 23; in the plain one they would name other things, and ours go by name.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.planning.base import Agents, SampleScore, Truth, averaged, mean_up_to
from stages.planning.geometry import DETECTED_VEHICLES, among, starting
from stages.planning.occupancy import CELL_M, CELLS, FIRST_CENTER_M, Prepared, draw, ego_cells, measure, with_raster

TIMES = "means of the steps up to 1, 2, 3 s"
PEOPLE = (f"human.pedestrian.{name}" for name in ("adult", "child", "construction_worker", "police_officer"))
DETECTED = {*DETECTED_VEHICLES, *PEOPLE, "movable_object.barrier", "movable_object.trafficcone"}
DETECTION_RANGE_M = (15.0, 30.0)  # right or left, ahead or behind: configs/VAD leave out what is beyond it now


def prepare(truth: Truth) -> Prepared | None:
    """Return what all plans share: near objects of the detection task with a lidar point now. None when not counted."""
    if not truth.valid.all():
        return None
    agents = truth.agents
    near = (np.abs(agents.lidar.centers_m[:, 0]) < DETECTION_RANGE_M).all(axis=1)  # NaN is not near
    return with_agents(truth, among(agents, DETECTED) & near & (agents.lidar_points[:, 0] != 0) & drawn(agents))


def drawn(agents: Agents) -> Bool[np.ndarray, " A"]:
    """Vehicles and humans: categories 14 to 23 and 2 to 8 of the table that its numbers belong to."""
    return starting(agents, "vehicle.", "human.")


def with_agents(truth: Truth, chosen: Bool[np.ndarray, " A"]) -> Prepared:
    """Return the inputs with these agents alone. An agent counts until its first key frame without an annotation."""
    agents = truth.agents
    here = chosen[:, None] & np.logical_and.accumulate(agents.annotated, axis=1)[:, 1:]
    return with_raster(truth, draw(agents, agents.lidar, here, sideways=-1), cells)


def cells(path_m: Float[np.ndarray, "6 2"]) -> tuple[Float[np.ndarray, "6 32 2"], Int[np.ndarray, "6 2"]]:
    """Cells of the footprint, and the one under the ego, half the raster off: officially the first place is halved."""
    box, _ = ego_cells(path_m * np.array([1, -1], path_m.dtype))
    center_m = -FIRST_CENTER_M / 2 + path_m * np.array([-1, -1], path_m.dtype)
    return np.stack([CELLS - box[..., 0], box[..., 1]], axis=-1), (center_m / CELL_M).astype(np.int64)


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    return averaged(measure(plan_ego_m, prepared, cells), mean_up_to, mean_up_to)
