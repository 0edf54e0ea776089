"""OmniDrive's open-loop protocol, that of the paper's Table 1: L2, Collision, Intersection.

Rules from NVlabs/OmniDrive, evaluation/{eval_planning,planning_utils}.py (2026-02-26); equal to its outputs on the
reference cases (tests/reference/families/omnidrive.py). Its two checks place the ego box differently, and so do we:
the footprint of the collision turns about the trajectory point and ignores the direction of a step under 1 m; the box
of the intersection keeps its offset ahead unturned and believes every direction.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.core.errors import DataError
from stages.planning.base import FARTHEST_M, Agents, SampleScore, Truth, any_up_to, mean_up_to
from stages.planning.geometry import CELLS, Quads, box_cells, footprint_hits, leaves, quads_of

TIMES = "L2: means of the steps up to 1, 2, 3 s; collision and intersection: any step up to them"
CENTER_AHEAD_M = 0.5 + 0.985793  # of the trajectory point: UniAD's 0.5 m ahead of the lidar, which is ahead of the IMU
BOX_LW_M = (4.08, 1.85)  # Intersection. Collision uses 4.084 x 1.85, in cells below
STILL_M = np.zeros((0, 2))  # of a path, now alone


@dataclass(frozen=True)
class Prepared:
    """The inputs that all plans of a sample share.

    The vehicles drawn, the recorded drive's own collisions, what is no road.
    """

    future_m: Float[np.ndarray, "6 2"]
    quads: Quads  # a vehicle at a step
    steps: Int[np.ndarray, " Q"]  # that step, 0 to 5
    recorded_hits: Bool[np.ndarray, " 6"]
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
    quads, steps = vehicles(truth.agents)
    hits = footprint_hits(truth.future_m, quads, steps)
    return Prepared(truth.future_m, quads, steps, hits, truth.drivable, off_road(STILL_M, truth.drivable)[0].item())


def judge(plan_ego_m: Float[np.ndarray, "6 2"], prepared: Prepared) -> SampleScore:
    """Return the numbers of one plan of a counted sample."""
    path_m = np.clip(plan_ego_m, -FARTHEST_M, FARTHEST_M)
    distances_m = np.sqrt(((path_m - prepared.future_m) ** 2).sum(axis=1))
    hits = footprint_hits(path_m, prepared.quads, prepared.steps, relevant=~prepared.recorded_hits)
    off = np.zeros(len(path_m), bool) if prepared.starts_off else off_road(path_m, prepared.drivable)[1:]
    return SampleScore(mean_up_to(distances_m), any_up_to(hits), any_up_to(off), counted=True)


def vehicles(agents: Agents) -> tuple[Quads, Int[np.ndarray, " Q"]]:
    """Each vehicle that is annotated now and then, on the raster, with that step."""
    # Rows 8 to 17 of nuScenes' category table are its vehicles; by name, because other tables have other rows.
    vehicle = np.array([name.startswith("vehicle.") for name in agents.categories], bool) & agents.annotated[:, 0]
    agent, step = np.nonzero(vehicle[:, None] & agents.annotated[:, 1:])
    places = agents.centers_m[agent, step + 1], agents.yaws_rad[agent, step + 1]
    return quads_of(box_cells(*places, agents.sizes_lw_m[agent]), CELLS), step


def off_road(path_m: Float[np.ndarray, "T 2"], drivable: Bool[np.ndarray, "1000 1000"]) -> Bool[np.ndarray, " T+1"]:
    """Return whether the ego's box, now (step 0) and at each step, covers a cell that is not drivable."""
    quads = quads_of(ego_cells(path_m), CELLS)
    return np.array([leaves(quads, i, drivable) for i in range(len(quads))])


def ego_cells(path_m: Float[np.ndarray, "T 2"]) -> Int[np.ndarray, "T+1 4 2"]:
    """Return corner cells of the ego's box of the intersection check, now and at each step."""
    points_m = np.vstack([np.zeros((1, 2), path_m.dtype), path_m])
    steps_m = np.diff(points_m, axis=0)
    yaws = np.concatenate([np.zeros(1), np.arctan2(steps_m[:, 1], steps_m[:, 0])])
    return box_cells(points_m + np.array([CENTER_AHEAD_M, 0]), yaws, np.tile(BOX_LW_M, (len(points_m), 1)))
