"""Everything that gets a box: the movers and bystanders of a drawn scene, with their place at each key frame."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.roads import (
    BAY_D_M,
    CROSSING_M,
    HALF_ROAD_M,
    JUNCTION_M,
    SWERVE_M,
    Array,
    Item,
    Path,
    Program,
    Road,
)
from stages.scenes.world.traffic import GREEN, KERB_M, TICKS_PER_STEP, Lead, Traffic, group_lag_m

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

    def attribute(self, step: int) -> str | None:
        """Name of its nuScenes attribute at a key frame; None for a category that has none."""
        if self.category == "vehicle.bicycle":
            return "cycle.with_rider"
        if self.category.startswith("human"):
            return "pedestrian.moving" if self.moving[step] else "pedestrian.standing"
        if self.category.startswith("vehicle"):
            return f"vehicle.{'moving' if self.moving[step] else 'stopped' if self.moving.any() else 'parked'}"
        return None


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
    if lead is not None and traffic.lead is not None:
        (plan, path), (u_m, braking) = lead, traffic.lead[::TICKS_PER_STEP].T
        actor = ordinary(rng, plan.category, path.pose(u_m), plan.size_wlh_m)
        actors.append(replace(actor, braking=braking > 0))
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
    count = max(2, int((last - first) / spacing))
    places = [(float(s), item.amount + outward * 0.27) for s in np.linspace(first, last, count)]
    # The two ends of the row lead back to where the obstacle comes from: the kerb, or the other lane.
    ends = np.linspace(0.8, 2.4, 3)
    places += [(first + 0.5 * e, item.amount + outward * (0.27 + e)) for e in ends]
    return [ordinary(rng, category, still(road, s, d, turn, frames), SIZES_WLH_M[category]) for s, d in places]


def bystanders(rng: np.random.Generator, road: Road, program: Program, traffic: Traffic, ego_xy: Array) -> list[Actor]:
    """Drawn for a whole scene; none of them comes near the ego."""
    frames = len(ego_xy)
    actors = _parked(rng, road, program, frames) + _oncoming(rng, road, frames) + _people(rng, road, frames)
    for index, item in enumerate(program.items):
        if item.kind in ("red", "green"):
            actors += _cross_traffic(rng, road, item, traffic.lights[index][::TICKS_PER_STEP])
    return [actor for actor in actors if _keeps_clear(actor, ego_xy)]


def _keeps_clear(actor: Actor, ego_xy: Array) -> bool:
    """True for a vehicle that never overlaps the ego's lane space: its middle 2.6 m aside, or one length apart."""
    away = np.linalg.norm(actor.poses[:, :2] - ego_xy, axis=1)
    if actor.category.startswith("human") or not actor.moving.any():
        return True
    return bool(away.min() > 2.6 + actor.size_wlh_m[1] / 2)


def _parked(rng: np.random.Generator, road: Road, program: Program, frames: int) -> list[Actor]:
    """Vehicles in the bays, wherever nothing else needs the place."""
    stops = [item for item in program.items if item.kind in ("red", "green", "pedestrian")]
    taken = [(item.start_m - 12, item.end_m + 3) for item in stops]
    taken += [(item.start_m, item.end_m) for item in program.items if item.kind.startswith("obstacle")]
    taken += [(fork.start_m - 10, fork.start_m + 16) for fork in program.forks]
    cars = []
    for d in (-BAY_D_M, BAY_D_M):
        s = float(rng.uniform(-60, -50))
        while s < 220:
            category = str(rng.choice(["vehicle.car", "vehicle.truck"], p=[0.9, 0.1]))
            if rng.uniform() < 0.45 and not any(a < s < b for a, b in taken):
                turn = 0.0 if d < 0 else np.pi
                cars.append(ordinary(rng, category, still(road, s, d + rng.uniform(-0.15, 0.1), turn, frames)))
            s += float(rng.uniform(8.5, 14))
    return cars


def _oncoming(rng: np.random.Generator, road: Road, frames: int) -> list[Actor]:
    times = np.arange(frames) * 0.5
    movers = []
    s = float(rng.uniform(10, 40))
    while s < 260:
        category = str(rng.choice(list(SIZES_WLH_M)[:4], p=[0.68, 0.12, 0.1, 0.1]))  # car, truck, bus, bicycle
        speed, d = (4.0, 2.9) if category.endswith("bicycle") else (7.0, 2.0)
        along = s - speed * times
        poses = np.column_stack([road.place(along, d), road.yaw_at(along) + np.pi])
        if along[-1] > road.s_m[0] + 2:
            movers.append(ordinary(rng, category, poses))
        s += float(rng.uniform(16, 60))
    return movers


def _people(rng: np.random.Generator, road: Road, frames: int) -> list[Actor]:
    times = np.arange(frames) * 0.5
    people = []
    for _ in range(int(rng.integers(8, 18))):
        side, speed = float(rng.choice([-1, 1])), float(rng.choice([-1.3, 0.0, 1.3]))
        along = rng.uniform(-20, 130) + speed * times
        d = side * rng.uniform(HALF_ROAD_M + 1.2, HALF_ROAD_M + 3.0)
        yaw = road.yaw_at(along) + (np.pi if speed < 0 else 0.0)
        category = "human.pedestrian.child" if rng.uniform() < 0.15 else "human.pedestrian.adult"
        people.append(ordinary(rng, category, np.column_stack([road.place(along, d), yaw])))
    return people


def _cross_traffic(rng: np.random.Generator, road: Road, item: Item, states: Array) -> list[Actor]:
    """On the crossing road: they cross while the light is red, and wait beside the main road while it is green."""
    frames = len(states)
    middle = item.start_m + sum(JUNCTION_M) / 2
    crossing = still(road, middle, 0.0, 0.0, frames)
    times = np.arange(frames) * 0.5
    movers = []
    for direction in (-1.0, 1.0):  # to the right, to the left
        yaw = float(road.yaw_at(middle)) + direction * np.pi / 2
        if states[0] == GREEN:
            if rng.uniform() < 0.7:
                d = -direction * (HALF_ROAD_M + 3.5 + rng.uniform(0, 2))
                movers.append(ordinary(rng, "vehicle.car", _turned(crossing, direction * 1.9, d, yaw)))
            continue
        green = np.flatnonzero(states.astype(int) & GREEN)
        last_s = (green[0] if len(green) else frames) * 0.5 - 2.5
        for cross_s in np.arange(rng.uniform(0.5, 2.5), max(last_s, 0.0), rng.uniform(2.5, 4.5)):
            d = direction * 7.0 * (times - cross_s)
            category = str(rng.choice(["vehicle.car", "vehicle.truck"]))
            movers.append(ordinary(rng, category, _turned(crossing, direction * 1.9, d, yaw)))
    return movers


def _turned(base: Array, forward: float, left: Array | float, yaw: float) -> Array:
    """Poses beside `base` (F, 3), moved in its own frame, with another heading."""
    heading = base[:, 2]
    x = base[:, 0] + np.cos(heading) * forward - np.sin(heading) * left
    y = base[:, 1] + np.sin(heading) * forward + np.cos(heading) * left
    return np.column_stack([x, y, np.full(len(base), yaw)])
