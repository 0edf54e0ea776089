"""BEV-Planner's open-loop protocol: "at any step up to 1, 2, 3 s", with the curb as what must not be touched.

Rules from NVlabs/BEV-Planner (01c28d6d): fbbev/planner_head/{metric_stp3,naive_planner}.py for the metric,
datasets/pipelines/loading.py and tools/create_data_bev_planner.py for what stands on the raster; equal to its outputs
on the reference cases (tests/reference/families/bevplanner.py). The collision is OmniDrive's ancestor, the same but for
the objects. Intersection: the footprint on a curb, drawn one cell thick; a step at which the recorded drive touches one
is left out. Frame: ego. Its option ignore_gt would give the recorded drive's collisions; its planner sets it to False.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.core.errors import DataError
from stages.planning.base import Agents, SampleScore, Truth, any_up_to, mean_up_to
from stages.planning.geometry import (
    CELL_M,
    CELLS,
    FIRST_CENTER_M,
    Quads,
    box_corners,
    covers,
    footprint_hits,
    footprints,
    line_cells,
    quads_of,
)
from stages.planning.occupancy import DETECTED_VEHICLES, official

TIMES = "L2: means of the steps up to 1, 2, 3 s; collision and intersection: any step up to them"


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share."""

    future_m: Float[np.ndarray, "6 2"]
    quads: Quads  # a vehicle at a step
    steps: Int[np.ndarray, " Q"]  # that step, 0 to 5
    curbs: Bool[np.ndarray, "1000 1000"]
    recorded_hits: Bool[np.ndarray, " 6"]
    recorded_on_curb: Bool[np.ndarray, " 6"]


@dataclass(frozen=True)
class Steps:
    """Values of each step, whose greatest up to a horizon counts; the recorded drive's own steps are left out."""

    l2_m: Float[np.ndarray, " 6"]
    center_hits: Bool[np.ndarray, " 6"]  # obj_col: the one cell under the ego
    box_hits: Bool[np.ndarray, " 6"]  # obj_box_col
    on_curb: Bool[np.ndarray, " 6"]  # obj_box_col_plus


def prepare(truth: Truth) -> Prepared | None:
    """Return what is the same for all plans of the sample.

    None when it is not counted. Raises DataError without a map.
    """
    return with_vehicles(truth, *vehicles(truth.agents)) if truth.valid.all() else None


def vehicles(agents: Agents) -> tuple[Quads, Int[np.ndarray, " Q"]]:
    """Vehicles of the detection task with a lidar or radar point then, corners cut to cells and not rounded."""
    known = np.array([name in DETECTED_VEHICLES for name in agents.categories], bool)
    empty = (agents.lidar_points == 0) & (agents.radar_points <= 0)
    agent, step = np.nonzero(known[:, None] & agents.annotated[:, 1:] & ~empty[:, 1:])
    places = agents.centers_m[agent, step + 1], agents.yaws_rad[agent, step + 1]
    return quads_of(_cells(box_corners(*places, agents.sizes_lw_m[agent])), CELLS), step


def _cells(points_m: Float[np.ndarray, "*any 2"]) -> Int[np.ndarray, "*any 2"]:
    return ((points_m - float(FIRST_CENTER_M)) / float(CELL_M)).astype(np.int64)


def with_vehicles(truth: Truth, quads: Quads, steps: Int[np.ndarray, " Q"]) -> Prepared:
    """Return the inputs with vehicles already on the raster. Raises DataError without a map."""
    if truth.curbs_m is None:
        raise DataError(expected=f"the curbs around sample {truth.token}", got="none", fix="add the map expansion")
    curbs, future_m = curb_raster(truth.curbs_m), official(truth.future_m)
    hits = footprint_hits(future_m, quads, steps)
    return Prepared(future_m, quads, steps, curbs, hits, _on(footprints(future_m), curbs))


def curb_raster(curbs_m: Float[np.ndarray, "S 2 2"]) -> Bool[np.ndarray, "1000 1000"]:
    """True on a line; row = y left, column = x forward. What leaves the raster is drawn along its border."""
    ends = np.clip((curbs_m - FIRST_CENTER_M) / CELL_M, 0, CELLS - 1).astype(np.int64)
    raster = np.zeros((CELLS, CELLS), bool)
    columns, rows = line_cells(ends[:, 0], ends[:, 1] - ends[:, 0]).T
    raster[rows, columns] = True
    return raster


def _on(cells: Int[np.ndarray, "T M 2"], raster: Bool[np.ndarray, "1000 1000"]) -> Bool[np.ndarray, " T"]:
    return raster[cells[..., 1], cells[..., 0]].any(axis=1)


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    steps = measure(plan_ego_m, prepared)
    return SampleScore(mean_up_to(steps.l2_m), any_up_to(steps.box_hits), any_up_to(steps.on_curb), counted=True)


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Steps:
    """Return the values of each step whose greatest the official code takes."""
    path_m = official(plan_ego_m)
    new, cells = ~prepared.recorded_hits, footprints(path_m)
    return Steps(
        l2_m=np.sqrt(((path_m - prepared.future_m) ** 2).sum(axis=1)).astype(float),
        center_hits=_center_hits(path_m, prepared) & new,
        box_hits=footprint_hits(path_m, prepared.quads, prepared.steps, relevant=new),
        on_curb=_on(cells, prepared.curbs) & ~prepared.recorded_on_curb,
    )


def _center_hits(path_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Bool[np.ndarray, " 6"]:
    cells = ((path_m - FIRST_CENTER_M) / CELL_M).astype(np.int64)
    inside = ((cells >= 0) & (cells < CELLS)).all(axis=1)
    quads, at = prepared.quads, cells[prepared.steps]
    hits = np.zeros(len(path_m), bool)
    for i in np.flatnonzero(((at >= quads.low) & (at <= quads.high)).all(axis=1)).tolist():
        hits[prepared.steps[i]] |= covers(quads, i, at[i : i + 1])[0]
    return hits & inside
