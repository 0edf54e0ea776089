"""Everything that gets a box: the movers and bystanders of a drawn scene, with their place at each key frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.paths import Path
from stages.scenes.world.program import CROSSING_M, SWERVE_M, Item, Program
from stages.scenes.world.roads import Array, Road
from stages.scenes.world.rules import KERB_M, TICKS_PER_STEP, group_lag_m
from stages.scenes.world.traffic import Lead, Traffic

SIZES_WLH_M = {
    "vehicle.car": (1.9, 4.5, 1.6),
    "vehicle.truck": (2.4, 7.2, 3.0),
    "vehicle.bus.rigid": (2.7, 10.5, 3.3),
    "vehicle.bicycle": (0.6, 1.8, 1.7),
    "human.pedestrian.adult": (0.65, 0.65, 1.75),
    "human.pedestrian.child": (0.5, 0.5, 1.25),
    "movable_object.trafficcone": (0.5, 0.5, 0.95),
    "movable_object.barrier": (2.1, 0.5, 1.05),
}


@dataclass(frozen=True, eq=False)
class Actor:
    """One annotated object. `poses` is (F, 3): x, y, heading in the scene frame at each key frame."""

    category: str
    size_wlh_m: tuple[float, float, float]
    poses: Array
    braking: NDArray[np.bool_]  # (F,)
    moving: NDArray[np.bool_]  # (F,)
    look: int  # seed of its colours


def ordinary(
    rng: np.random.Generator, category: str, poses: Array, size: tuple[float, float, float] | None = None
) -> Actor:
    """An actor of ordinary size, a little varied, that brakes nowhere and moves where its place changes."""
    if size is None:
        scale = rng.uniform(0.93, 1.07)
        w, length, h = SIZES_WLH_M[category]
        size = (w * scale, length * scale, h * scale)
    steps = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1)
    moving = np.concatenate([steps, steps[-1:]]) > 0.1
    return Actor(category, size, poses, np.zeros(len(poses), bool), moving, int(rng.integers(2**31)))


def still(road: Road, s: float, d: float, turn: float, frames: int) -> Array:
    x, y = road.place(s, d)
    return np.tile([x, y, float(road.yaw_at(s)) + turn], (frames, 1))


def ruled_actors(
    rng: np.random.Generator, road: Road, program: Program, traffic: Traffic, lead: tuple[Lead, Path] | None
) -> list[Actor]:
    """Those the ego reacts to: the lead, crossing pedestrians, obstacles."""
    frames = len(traffic.ego_u_m[::TICKS_PER_STEP])
    actors: list[Actor] = []
    if lead is not None and traffic.lead_u_m is not None and traffic.lead_braking is not None:
        plan, path = lead
        poses = path.pose(traffic.lead_u_m[::TICKS_PER_STEP])
        base = ordinary(rng, plan.category, poses, plan.size_wlh_m)
        lit = traffic.lead_braking[::TICKS_PER_STEP] > 0
        actors.append(Actor(base.category, base.size_wlh_m, poses, lit, base.moving, base.look))
    for index, item in enumerate(program.items):
        if item.kind == "pedestrian":
            actors.extend(_crossing_group(rng, road, item, traffic.walks[index][::TICKS_PER_STEP]))
        elif item.kind.startswith("obstacle"):
            actors.extend(_obstacle(rng, road, item, frames))
    return actors


def _crossing_group(rng: np.random.Generator, road: Road, item: Item, d_first: Array) -> list[Actor]:
    count = int(item.variant * 3) + 1
    lag = group_lag_m(item)
    sign = np.sign(item.amount)
    group = []
    for member in range(count):
        behind = lag * member / max(count - 1, 1)
        d = np.clip(d_first - sign * behind, -KERB_M - 0.3, KERB_M + 0.3)
        s = item.start_m + float(np.mean(CROSSING_M)) + rng.uniform(-1.1, 1.1)
        xy = road.place(np.full(len(d), s), d)
        yaw = np.full(len(d), float(road.yaw_at(s)) + sign * np.pi / 2)
        category = "human.pedestrian.child" if member and rng.uniform() < 0.3 else "human.pedestrian.adult"
        group.append(ordinary(rng, category, np.column_stack([xy, yaw])))
    return group


def _obstacle(rng: np.random.Generator, road: Road, item: Item, frames: int) -> list[Actor]:
    """A standing vehicle, a row of cones or a row of barriers; `item.amount` is the d of the edge beside the ego."""
    first, last = item.start_m + SWERVE_M, item.end_m - SWERVE_M
    outward = -1.0 if item.kind == "obstacle_right" else 1.0
    if item.variant < 0.4:
        category = "vehicle.truck" if item.variant < 0.12 else "vehicle.car"
        size = SIZES_WLH_M[category]
        middle = still(road, (first + last) / 2, item.amount + outward * size[0] / 2, 0.0, frames)
        return [ordinary(rng, category, middle, size)]
    category = "movable_object.trafficcone" if item.variant < 0.75 else "movable_object.barrier"
    spacing = 1.8 if category.endswith("cone") else 2.3
    turn = 0.0 if category.endswith("cone") else np.pi / 2
    rows = [item.amount + outward * 0.27]
    count = max(2, int((last - first) / spacing))
    places = [(float(s), d) for d in rows for s in np.linspace(first, last, count)]
    # The two ends of the row lead back to where the obstacle comes from: the kerb, or the other lane.
    ends = np.linspace(0.8, 2.4, 3)
    places += [(first + 0.5 * e, item.amount + outward * (0.27 + e)) for e in ends]
    return [ordinary(rng, category, still(road, s, d, turn, frames), SIZES_WLH_M[category]) for s, d in places]
