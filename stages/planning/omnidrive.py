"""OmniDrive's open-loop protocol, that of the paper's Table 1: L2, Collision, Intersection.

Rules from NVlabs/OmniDrive, evaluation/{eval_planning,planning_utils}.py (2026-02-26); equal to its outputs on the
reference cases (tests/reference/families/omnidrive.py). Its two checks place the ego box differently, and so do we:
the footprint of the collision turns about the trajectory point and ignores the direction of a step under 1 m; the box
of the intersection keeps its offset ahead unturned and believes every direction. The plan's precision is kept:
OmniDrive divides float64 plans by a float32 cell size, and the cell a coordinate falls into depends on it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.errors import DataError
from stages.planning.base import FARTHEST_M, HORIZON_STEPS, NOT_COUNTED, Agents, SampleScore, Truth
from stages.planning.geometry import CELL_M, CELLS, ORIGIN_CELL, box_cells, covers, touches

CENTER_AHEAD_M = 0.5 + 0.985793  # of the trajectory point: UniAD's 0.5 m ahead of the lidar, which is ahead of the IMU
BOX_LW_M = (4.08, 1.85)  # Intersection. Collision uses 4.084 x 1.85, in cells below
LEAST_STEP_M = 1.0  # a shorter step does not turn the footprint of the collision check
# Cells of the unturned 4.084 x 1.85 m footprint: skimage.draw.polygon fills columns 494 to 534, rows 491 to 508.
STILL_M = np.zeros((0, 2))  # of a path, now alone
FOOTPRINT = np.stack(np.meshgrid(np.arange(494, 535), np.arange(491, 509)), axis=-1).reshape(-1, 2) + ORIGIN_CELL


@dataclass(frozen=True)
class Prepared:
    """What all plans of a sample share: the vehicles drawn, the recorded drive's own collisions, what is no road."""

    future_m: Float[np.ndarray, "6 2"]
    quads: Int[np.ndarray, "Q 4 2"]  # corner cells of a vehicle at a step
    steps: Int[np.ndarray, " Q"]  # that step, 0 to 5
    recorded_hits: Bool[np.ndarray, " 6"]
    blocked: Bool[np.ndarray, "1000 1000"]  # True is not drivable
    starts_off: bool  # the ego's box covers such a cell now


def score(plan_ego_m: Float[np.ndarray, "6 2"], truth: Truth) -> SampleScore:
    """Numbers of one sample; not counted when the recorded future is incomplete.

    L2 up to X s is the mean over its steps; collision and intersection are "at any step up to X s".
    A step at which the recorded drive itself collides is no collision; a sample that stands on non-drivable ground
    now is no intersection. Raises DataError when the drivable area is missing.
    """
    prepared = prepare(truth)
    return NOT_COUNTED if prepared is None else judge(plan_ego_m, prepared)


def prepare(truth: Truth) -> Prepared | None:
    """What is the same for all plans of the sample; None when it is not counted. Raises DataError without a map."""
    if not truth.valid.all():
        return None
    if truth.drivable is None:
        raise DataError(wanted=f"the drivable area of sample {truth.token}", came="none", then="add the map expansion")
    quads, steps = _vehicles(truth.agents)
    blocked = ~truth.drivable
    return Prepared(
        truth.future_m,
        quads,
        steps,
        _hits(truth.future_m, quads, steps),
        blocked,
        _off_road(STILL_M, blocked)[0].item(),
    )


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Numbers of one plan of a counted sample."""
    path_m = np.clip(plan_ego_m, -FARTHEST_M, FARTHEST_M)
    distances_m = np.sqrt(((path_m - prepared.future_m) ** 2).sum(axis=1))
    hits = _hits(path_m, prepared.quads, prepared.steps) & ~prepared.recorded_hits
    off = _off_road(path_m, prepared.blocked)[1:] & (not prepared.starts_off)
    return SampleScore(
        l2_m=np.array([distances_m[:steps].mean() for steps in HORIZON_STEPS], float),
        collision=np.array([hits[:steps].any() for steps in HORIZON_STEPS], float),
        intersection=np.array([off[:steps].any() for steps in HORIZON_STEPS], float),
        counted=True,
    )


def _vehicles(agents: Agents) -> tuple[Int[np.ndarray, "Q 4 2"], Int[np.ndarray, " Q"]]:
    """Corner cells and step of each vehicle that is annotated now and then."""
    # Rows 8 to 17 of nuScenes' category table are its vehicles; by name, because other tables have other rows.
    vehicle = np.array([name.startswith("vehicle.") for name in agents.categories], bool) & agents.annotated[:, 0]
    agent, step = np.nonzero(vehicle[:, None] & agents.annotated[:, 1:])
    places = agents.centers_m[agent, step + 1], agents.yaws_rad[agent, step + 1]
    return box_cells(*places, agents.sizes_lw_m[agent]), step


def _hits(
    path_m: Float[np.ndarray, "6 2"], quads: Int[np.ndarray, "Q 4 2"], steps: Int[np.ndarray, " Q"]
) -> Bool[np.ndarray, " 6"]:
    """At which steps the ego's footprint touches a vehicle."""
    cells = _footprints(path_m)
    low, high = cells.min(axis=1), cells.max(axis=1)
    near = (quads.max(axis=1) >= low[steps]) & (quads.min(axis=1) <= high[steps])
    hits = np.zeros(len(path_m), bool)
    for i in np.flatnonzero(near.all(axis=1)):
        hits[steps[i]] |= covers(quads[i], cells[steps[i]]).any()
    return hits


def _footprints(path_m: Float[np.ndarray, "6 2"]) -> Int[np.ndarray, "6 M 2"]:
    """Cells of the ego at each step, turned into the step's direction; beyond the raster they stick to its border."""
    steps_m = np.diff(path_m, axis=0, prepend=np.zeros((1, 2), path_m.dtype))
    yaws = np.arctan2(steps_m[:, 1], steps_m[:, 0])
    yaws[np.sqrt((steps_m**2).sum(axis=1)) < LEAST_STEP_M] = 0  # the current heading, not the last step's
    cos, sin = (turn(yaws.astype(np.float64)).astype(np.float32) for turn in (np.cos, np.sin))
    turns = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)
    turned = np.round(FOOTPRINT @ turns - ORIGIN_CELL)
    return np.clip((path_m / CELL_M)[:, None] + turned, 0, CELLS - 1).astype(np.int64)


def _off_road(path_m: Float[np.ndarray, "T 2"], blocked: Bool[np.ndarray, "1000 1000"]) -> Bool[np.ndarray, " T+1"]:
    """Whether the ego's box, now (step 0) and at each step, covers a cell that is not drivable."""
    points_m = np.vstack([np.zeros((1, 2), path_m.dtype), path_m])
    steps_m = np.diff(points_m, axis=0)
    yaws = np.concatenate([np.zeros(1), np.arctan2(steps_m[:, 1], steps_m[:, 0])])
    quads = box_cells(points_m + np.array([CENTER_AHEAD_M, 0]), yaws, np.tile(BOX_LW_M, (len(points_m), 1)))
    return np.array([touches(quad, blocked) for quad in quads])
