"""Impromptu-VLA's own open-loop protocol, which is SparseDrive's: exact boxes, no raster, means over steps.

Rules from the evaluator of Impromptu-VLA (7dc90bda) and SparseDrive, projects/mmdet3d_plugin/datasets/evaluation/
planning/planning_eval.py and nuscenes_3d_dataset.py; equal to its outputs on the reference cases. Obstacles are ALL
boxes with a lidar point in them in that future key frame, people, barriers and cones too. Frame: lidar; x right, y
forward.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.planning.base import FARTHEST_M, SampleScore, Steps, Truth, averaged, distances_m, mean_up_to
from stages.planning.geometry import box_corners, later_boxes

TIMES = "means of the steps up to 1, 2, 3 s"
BOX_LW_M = (4.084, 1.85)
CENTER_AHEAD_M = 0.5  # of the trajectory point, along its yaw
LEAST_WAY_M = 0.5  # a shorter way from first to last point has no direction: forward


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share."""

    future_m: Float[np.ndarray, "6 2"]
    corners_m: Float[np.ndarray, "Q 4 2"]  # of a box at a step
    steps: Int[np.ndarray, " Q"]  # that step, 0 to 5
    recorded_hits: Bool[np.ndarray, " 6"]  # obj_col: where the recorded drive itself touches a box


def prepare(truth: Truth) -> Prepared | None:
    """Return what is the same for all plans of the sample; None when it is not counted."""
    if not truth.valid.all():
        return None
    agents = truth.agents
    boxes = later_boxes(agents, agents.lidar, agents.annotated[:, 1:] & (agents.lidar_points[:, 1:] != 0))
    return Prepared(truth.future_m, *boxes, hits_of(truth.future_m, *boxes))


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    return averaged(measure(plan_ego_m, prepared), mean_up_to, mean_up_to)


def measure(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> Steps:
    """Return the values that the official code adds up over all samples."""
    path_m = np.clip(plan_ego_m, -FARTHEST_M, FARTHEST_M)
    hits = hits_of(path_m, prepared.corners_m, prepared.steps) & ~prepared.recorded_hits
    return Steps(distances_m(path_m, prepared.future_m), hits)


def hits_of(
    path_m: Float[np.ndarray, "6 2"], corners_m: Float[np.ndarray, "Q 4 2"], steps: Int[np.ndarray, " Q"]
) -> Bool[np.ndarray, " 6"]:
    """Return at which steps the ego's box touches another, which is there at that step alone."""
    hits = np.zeros(len(path_m), bool)
    hits[steps[intersect(ego_corners_m(path_m)[steps], corners_m)]] = True
    return hits


def ego_corners_m(path_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, "6 4 2"]:
    """The ego's box at each step of a path x forward, y left; lidar frame."""
    path_m = np.stack([-path_m[:, 1], path_m[:, 0]], axis=1)
    yaws = _yaws_rad(path_m)
    ahead_m = CENTER_AHEAD_M * np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
    return box_corners(path_m + ahead_m, yaws, np.tile(BOX_LW_M, (len(path_m), 1)))


def _yaws_rad(path_m: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, " 6"]:
    """Direction from the point before to the point after, of the last from the one before; the first is now."""
    if np.sqrt(((path_m[-1] - path_m[0]) ** 2).sum()) < LEAST_WAY_M:
        return np.full(len(path_m), np.pi / 2)
    points_m = np.vstack([np.zeros((1, 2), path_m.dtype), path_m])
    ways_m = np.vstack([points_m[2:] - points_m[:-2], points_m[-1:] - points_m[-2:-1]])
    return np.arctan2(ways_m[:, 1], ways_m[:, 0])


def intersect(a_m: Float[np.ndarray, "Q 4 2"], b_m: Float[np.ndarray, "Q 4 2"]) -> Bool[np.ndarray, " Q"]:
    """Return for each i whether rectangle i of `a_m` and rectangle i of `b_m` touch, as in shapely.

    Two convex shapes do not exactly when an edge of one of them has the other wholly on its far side.
    """
    near = (a_m.max(axis=1) >= b_m.min(axis=1)).all(axis=1) & (a_m.min(axis=1) <= b_m.max(axis=1)).all(axis=1)
    a_m, b_m = a_m[near].astype(float), b_m[near].astype(float)
    edges = np.concatenate([np.diff(a_m[:, :3], axis=1), np.diff(b_m[:, :3], axis=1)], axis=1)
    normals = np.stack([-edges[..., 1], edges[..., 0]], axis=-1)
    a, b = (np.einsum("qed,qcd->qec", normals, corners) for corners in (a_m, b_m))
    touching = np.zeros(len(near), bool)
    touching[near] = ((a.max(axis=2) >= b.min(axis=2)) & (b.max(axis=2) >= a.min(axis=2))).all(axis=1)
    return touching
