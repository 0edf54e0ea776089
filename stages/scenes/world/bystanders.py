"""Those that change nothing for the ego: parked, oncoming and crossing vehicles, people on the pavement."""

import numpy as np

from stages.scenes.world.actors import Actor, ordinary, still
from stages.scenes.world.program import JUNCTION_M, Item, Program
from stages.scenes.world.roads import BAY_D_M, HALF_ROAD_M, Array, Road
from stages.scenes.world.rules import GREEN, TICKS_PER_STEP
from stages.scenes.world.traffic import Traffic


def bystanders(rng: np.random.Generator, road: Road, program: Program, traffic: Traffic, ego_xy: Array) -> list[Actor]:
    """Drawn for a whole scene; none of them comes near the ego."""
    frames = len(ego_xy)
    found = _parked(rng, road, program, frames) + _oncoming(rng, road, frames) + _people(rng, road, frames)
    for index, item in enumerate(program.items):
        if item.kind in ("red", "green"):
            found += _cross_traffic(rng, road, item, traffic.lights[index][::TICKS_PER_STEP])
    return [actor for actor in found if _keeps_clear(actor, ego_xy)]


def _keeps_clear(actor: Actor, ego_xy: Array) -> bool:
    """Whether a vehicle never overlaps the ego's lane space: its middle 2.6 m aside, or one length apart."""
    away = np.linalg.norm(actor.poses[:, :2] - ego_xy, axis=1)
    if actor.category.startswith("human") or not actor.moving.any():
        return True
    return bool(away.min() > 2.6 + actor.size_wlh_m[1] / 2)


def _parked(rng: np.random.Generator, road: Road, program: Program, frames: int) -> list[Actor]:
    """Vehicles in the bays, wherever nothing else needs the place."""
    taken = [
        (item.start_m - 12, item.end_m + 3) for item in program.items if item.kind in ("red", "green", "pedestrian")
    ]
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
        category = str(
            rng.choice(
                ["vehicle.car", "vehicle.truck", "vehicle.bus.rigid", "vehicle.bicycle"], p=[0.68, 0.12, 0.1, 0.1]
            )
        )
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
    times = np.arange(frames) * 0.5
    movers = []
    for direction in (-1.0, 1.0):  # to the right, to the left
        s = middle + direction * 1.9
        yaw = float(road.yaw_at(middle)) + direction * np.pi / 2
        green = np.flatnonzero(states.astype(int) & GREEN)
        if states[0] == GREEN:
            if rng.uniform() < 0.7:
                d = -direction * (HALF_ROAD_M + 3.5 + rng.uniform(0, 2))
                movers.append(
                    ordinary(
                        rng, "vehicle.car", _turned(still(road, middle, 0.0, 0.0, frames), direction * 1.9, d, yaw)
                    )
                )
            continue
        last_s = (green[0] if len(green) else frames) * 0.5 - 2.5
        for cross_s in np.arange(rng.uniform(0.5, 2.5), max(last_s, 0.0), rng.uniform(2.5, 4.5)):
            d = direction * 7.0 * (times - cross_s)
            base = still(road, middle, 0.0, 0.0, frames)
            movers.append(
                ordinary(rng, str(rng.choice(["vehicle.car", "vehicle.truck"])), _turned(base, s - middle, d, yaw))
            )
    return movers


def _turned(base: Array, forward: float, left: Array | float, yaw: float) -> Array:
    """Poses beside `base` (F, 3), moved in its own frame, with another heading."""
    heading = base[:, 2]
    x = base[:, 0] + np.cos(heading) * forward - np.sin(heading) * left
    y = base[:, 1] + np.sin(heading) * forward + np.cos(heading) * left
    return np.column_stack([x, y, np.full(len(base), yaw)])
