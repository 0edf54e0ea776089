"""BEV-Planner's open-loop protocol: "at any step up to 1, 2, 3 s", with the curb as what must not be touched.

Rules from NVlabs/BEV-Planner (01c28d6d): fbbev/planner_head/{metric_stp3,naive_planner}.py for the metric,
datasets/pipelines/loading.py and tools/create_data_bev_planner.py for what stands on the raster; equal to its outputs
on the reference cases. The collision is OmniDrive's ancestor, the same but for the objects. Intersection: the footprint
on a curb, drawn one cell thick; a step at which the recorded drive touches one is left out. Frame: ego. Its option
ignore_gt would give the recorded drive's collisions; its planner sets it to False.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from stages.core.errors import DataError
from stages.planning.base import SampleScore, Steps, Truth, any_up_to, averaged, distances_m, mean_up_to
from stages.planning.geometry import CELLS, DETECTED_VEHICLES, among, cut_cells, fill, footprint_hits, later_boxes
from stages.planning.occupancy import center_hits, official

TIMES = "L2: means of the steps up to 1, 2, 3 s; collision and intersection: any step up to them"


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share."""

    future_m: Float[np.ndarray, "6 2"]
    occupied: Bool[np.ndarray, "6 1000 1000"]
    curbs: Bool[np.ndarray, "6 1000 1000"]
    recorded_hits: Bool[np.ndarray, " 6"]
    recorded_on_curb: Bool[np.ndarray, " 6"]


def prepare(truth: Truth) -> Prepared | None:
    """Return what all plans of a sample share; None when it is not counted. Raises DataError without a map."""
    return with_vehicles(truth, vehicles(truth)) if truth.valid.all() else None


def vehicles(truth: Truth) -> Bool[np.ndarray, "6 1000 1000"]:
    """Return rasters of vehicles of the detection task with a lidar or radar point then, corners not rounded."""
    agents = truth.agents
    empty = (agents.lidar_points == 0) & (agents.radar_points <= 0)
    here = among(agents, DETECTED_VEHICLES)[:, None] & agents.annotated[:, 1:] & ~empty[:, 1:]
    corners_m, steps = later_boxes(agents, agents.ego, here)
    return fill(cut_cells(corners_m), steps)


def with_vehicles(truth: Truth, occupied: Bool[np.ndarray, "6 1000 1000"]) -> Prepared:
    """Return the inputs with vehicles already on the rasters. Raises DataError without a map."""
    if truth.curbs_m is None:
        raise DataError(expected=f"the curbs around sample {truth.token}", got="none", fix="add the map expansion")
    future_m = official(truth.future_m)
    curbs = np.broadcast_to(curb_raster(truth.curbs_m), occupied.shape)
    return Prepared(future_m, occupied, curbs, footprint_hits(future_m, occupied), footprint_hits(future_m, curbs))


def curb_raster(curbs_m: Float[np.ndarray, "S 2 2"]) -> Bool[np.ndarray, "1000 1000"]:
    """True on a line; row = y left, column = x forward. What leaves the raster is drawn along its border."""
    raster = np.zeros((CELLS, CELLS), np.uint8)
    cv2.polylines(raster, list(np.clip(cut_cells(curbs_m), 0, CELLS - 1).astype(np.int32)), False, 1)
    return raster.view(bool)


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    return averaged(measure(plan_ego_m, prepared), mean_up_to, any_up_to)


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Steps:
    """Return the values of each step whose greatest the official code takes."""
    path_m, new = official(plan_ego_m), ~prepared.recorded_hits
    return Steps(
        l2_m=distances_m(path_m, prepared.future_m),
        box_hits=footprint_hits(path_m, prepared.occupied) & new,
        center_hits=center_hits(cut_cells(path_m)[:, ::-1], prepared.occupied) & new,
        off_road=footprint_hits(path_m, prepared.curbs) & ~prepared.recorded_on_curb,
    )
