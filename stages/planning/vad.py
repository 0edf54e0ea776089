"""VAD's open-loop protocol: means over all steps up to 1, 2, 3 s, of key frames with a complete future.

Rules from hustvl/VAD (1688c4b1): VAD/planner/metric_stp3.py for the metric, tools/data_converter/ and configs/VAD/ for
samples and objects; equal to its outputs on the reference cases (tests/reference/families/vad.py).
Frame: lidar, drawn with y forward as UP: row = 200 - y forward, column = x right. Its numbers of categories belong to a
table with a `noise` row before the 23; in the plain one they would name other things, and ours go by name.
"""

import numpy as np
from jaxtyping import Bool, Float

from stages.planning.base import NO_RATE, Agents, SampleScore, Truth, mean_up_to
from stages.planning.occupancy import (
    CELL_M,
    CELLS,
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

TIMES = "means of the steps up to 1, 2, 3 s"
DETECTED_OTHERS = frozenset(
    (
        *(f"human.pedestrian.{name}" for name in ("adult", "child", "construction_worker", "police_officer")),
        "movable_object.barrier",
        "movable_object.trafficcone",
    )
)
DETECTION_RANGE_M = (15.0, 30.0)  # right or left, ahead or behind: configs/VAD leave out what is beyond it now


def prepare(truth: Truth) -> Prepared | None:
    """Return what is the same for all plans of the sample; None when it is not counted."""
    return with_agents(truth, obstacles(truth.agents)) if truth.valid.all() else None


def obstacles(agents: Agents) -> Bool[np.ndarray, " A"]:
    """Return which objects count: what the loader hands to the metric, and of that what the metric draws."""
    return handed_over(agents) & drawn(agents)


def handed_over(agents: Agents) -> Bool[np.ndarray, " A"]:
    """Near objects of the detection task with a lidar point in them now: the test pipeline's filters."""
    kinds = [name in DETECTED_VEHICLES | DETECTED_OTHERS for name in agents.categories]
    near = (np.abs(agents.centers_lidar_m[:, 0]) < DETECTION_RANGE_M).all(axis=1)  # NaN is not near
    return np.array(kinds, bool) & near & (agents.lidar_points[:, 0] != 0)


def drawn(agents: Agents) -> Bool[np.ndarray, " A"]:
    """Vehicles and humans: categories 14 to 23 and 2 to 8 of the table that its numbers belong to."""
    return np.array([name.startswith(("vehicle.", "human.")) for name in agents.categories], bool)


def with_agents(truth: Truth, chosen: Bool[np.ndarray, " A"]) -> Prepared:
    """Return the inputs with these agents alone. An agent counts until its first key frame without an annotation."""
    agents = truth.agents
    here = chosen[:, None] & np.logical_and.accumulate(agents.annotated, axis=1)[:, 1:]
    occupied = draw(agents, here, agents.centers_lidar_m, agents.yaws_lidar_rad, sideways=-1)
    return Prepared(truth.future_m, truth.valid, occupied, box_hits(_footprint(official(truth.future_m)), occupied))


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    steps = measure(plan_ego_m, prepared)
    return SampleScore(mean_up_to(steps.l2_m), mean_up_to(steps.box_hits), NO_RATE, counted=True)


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Steps:
    """Return the values that the official code averages over the steps up to each horizon.

    Its one cell under the ego is half the raster off: it halves the place of the first cell.
    """
    path_m, new = official(plan_ego_m), ~prepared.recorded_hits
    down_right_m = path_m * np.array([-1, -1], path_m.dtype)
    cells = ((-FIRST_CENTER_M / 2 + down_right_m) / CELL_M).astype(np.int64)
    return Steps(
        l2_m=distances_m(plan_ego_m, prepared),
        center_hits=center_hits(cells, prepared.occupied) & new,
        box_hits=box_hits(_footprint(path_m), prepared.occupied) & new,
    )


def _footprint(path_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, "6 32 2"]:
    cells = footprint_cells(path_m * np.array([1, -1], path_m.dtype))
    return np.stack([CELLS - cells[..., 0], cells[..., 1]], axis=-1)
