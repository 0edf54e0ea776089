"""OmniDrive's open-loop protocol, that of the paper's Table 1: L2, Collision, Intersection.

Rules from NVlabs/OmniDrive, evaluation/{eval_planning,planning_utils}.py (2026-02-26); equal to its outputs on the
reference cases. Its two checks place the ego box differently, and so do we: the footprint of the collision turns about
the trajectory point and ignores the direction of a step under 1 m; the box of the intersection keeps its offset ahead
unturned and believes every direction.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.core.errors import DataError
from stages.planning.base import FARTHEST_M, SampleScore, Steps, Truth, any_up_to, averaged, distances_m, mean_up_to
from stages.planning.geometry import box_corners, fill, footprint_hits, later_boxes, leaves, nearest_cells, starting

TIMES = "L2: means of the steps up to 1, 2, 3 s; collision and intersection: any step up to them"
CENTER_AHEAD_M = 0.5 + 0.985793  # of the trajectory point: UniAD's 0.5 m ahead of the lidar, which is ahead of the IMU
BOX_LW_M = (4.08, 1.85)  # Intersection. Collision uses 4.084 x 1.85, in cells (geometry.FOOTPRINT)


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share."""

    future_m: Float[np.ndarray, "6 2"]
    occupied: Bool[np.ndarray, "6 1000 1000"]
    recorded_hits: Bool[np.ndarray, " 6"]  # where the recorded drive itself collides
    drivable: Bool[np.ndarray, "1000 1000"]
    starts_off: bool  # the ego's box covers a cell that is not drivable now


def prepare(truth: Truth) -> Prepared | None:
    """Return what is the same for all plans of the sample; None without a whole recorded future.

    A step at which the recorded drive itself collides is no collision; a sample that stands on non-drivable ground now
    is no intersection. Raises DataError when the drivable area is missing.
    """
    if not truth.valid.all():
        return None
    if truth.drivable is None:
        raise DataError(expected=f"the drivable area of sample {truth.token}", got="none", fix="add the map expansion")
    starts_off = off_road(np.zeros((0, 2)), truth.drivable)[0].item()
    occupied = vehicles(truth)
    return Prepared(truth.future_m, occupied, footprint_hits(truth.future_m, occupied), truth.drivable, starts_off)


def vehicles(truth: Truth) -> Bool[np.ndarray, "6 1000 1000"]:
    """Return rasters of the vehicles that are annotated now and then."""
    # Rows 8 to 17 of nuScenes' category table are its vehicles; by name, because other tables have other rows.
    agents = truth.agents
    here = (starting(agents, "vehicle.") & agents.annotated[:, 0])[:, None] & agents.annotated[:, 1:]
    corners_m, steps = later_boxes(agents, agents.ego, here)
    return fill(nearest_cells(corners_m), steps)


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    path_m = np.clip(plan_ego_m, -FARTHEST_M, FARTHEST_M)
    hits = footprint_hits(path_m, prepared.occupied) & ~prepared.recorded_hits
    off = np.zeros(len(path_m), bool) if prepared.starts_off else off_road(path_m, prepared.drivable)[1:]
    return averaged(Steps(distances_m(path_m, prepared.future_m), hits, off_road=off), mean_up_to, any_up_to)


def off_road(path_m: Float[np.ndarray, "T 2"], drivable: Bool[np.ndarray, "1000 1000"]) -> Bool[np.ndarray, " T+1"]:
    """Return whether the ego's box, now (step 0) and at each step, covers a cell that is not drivable."""
    return leaves(ego_cells(path_m), drivable)


def ego_cells(path_m: Float[np.ndarray, "T 2"]) -> Int[np.ndarray, "T+1 4 2"]:
    """Return corner cells of the ego's box of the intersection check, now and at each step."""
    points_m = np.vstack([np.zeros((1, 2), path_m.dtype), path_m])
    steps_m = np.diff(points_m, axis=0)
    yaws = np.concatenate([np.zeros(1), np.arctan2(steps_m[:, 1], steps_m[:, 0])])
    centers_m = points_m + np.array([CENTER_AHEAD_M, 0])
    return nearest_cells(box_corners(centers_m, yaws, np.tile(BOX_LW_M, (len(points_m), 1))))
