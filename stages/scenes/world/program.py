"""What stands along the road of a drawn scene, and how the road bends: drawn from the seed, before anything moves."""

from dataclasses import dataclass

import numpy as np

from stages.scenes.world.roads import Bend, Fork

EVENTS = ("free", "lead", "red", "green", "pedestrian", "obstacle_right", "obstacle_left", "curve")
FRONT_M = 3.53  # rear axle (the ego's origin) to the front bumper: 1.486 + 4.084 / 2, research/planning.md 1.1
SWERVE_M = 16.0  # length over which the ego leaves its lane, and comes back
JUNCTION_M = (4.0, 13.0)  # the crossing road, metres behind the stop line
CROSSING_M = (1.8, 5.4)  # the zebra, metres behind its stop line
LAST_M = 200.0  # nothing is placed further on; 12.5 s at full speed is 125 m
TURN_LIMIT_RAD = 1.1  # heading of the road stays within this, so that it never meets itself

_KINDS = ("red", "green", "pedestrian", "obstacle_right", "obstacle_left", "curve", "free")
_SHARES = (0.10, 0.11, 0.11, 0.16, 0.15, 0.28, 0.09)


@dataclass(frozen=True)
class Item:
    """One thing that the ego has to drive by.

    `start_m` is the stop line (red, green, pedestrian), where the swerve begins (obstacle_*), or where the bend does.
    """

    kind: str
    start_m: float
    end_m: float
    amount: (
        float  # red: seconds of waiting; pedestrian: walking speed, positive to the left; obstacle: d of its near edge
    )
    variant: float  # uniform in [0, 1): how it looks, and whether a light is red from the start


@dataclass(frozen=True)
class Program:
    """All items in order of s, and the shape of the road under them."""

    items: tuple[Item, ...]
    bends: tuple[Bend, ...]
    forks: tuple[Fork, ...]


def draw_program(rng: np.random.Generator, speed_mps: float) -> Program:
    """Items from just beyond the stopping distance of the first speed on, with gaps, bends and forks between."""
    items: list[Item] = []
    bends = [Bend(-1e3, 0.0, float(rng.uniform(-0.006, 0.006)))]
    forks: list[Fork] = []
    place_m = float(FRONT_M + speed_mps**2 / 5 + 0.7 * speed_mps + rng.uniform(2, 16))
    heading = 0.0
    while place_m < LAST_M:
        kind = str(rng.choice(_KINDS, p=_SHARES))
        item = _draw_item(rng, kind, place_m)
        bend = _draw_bend(rng, item, heading)
        heading += bend.curvature * (bend.end_m - bend.start_m)
        items.append(item)
        bends.append(bend)
        forks.extend(_draw_forks(rng, item, bend))
        place_m = item.end_m + float(rng.uniform(4, 14))
    bends.append(Bend(LAST_M + 40, 1e4, float(-np.sign(heading) * 0.003)))
    return Program(tuple(items), tuple(bends), tuple(forks))


def _draw_item(rng: np.random.Generator, kind: str, start_m: float) -> Item:
    variant = float(rng.uniform())
    if kind in ("red", "green"):
        return Item(kind, start_m, start_m + 18.0, float(rng.uniform(0.5, 2.5)), variant)
    if kind == "pedestrian":
        speed = float(rng.uniform(1.2, 1.9) * rng.choice([-1, 1]))
        return Item(kind, start_m, start_m + 8.0, speed, variant)
    if kind.startswith("obstacle"):
        length = 5.0 if variant < 0.4 else float(rng.uniform(7, 14))
        near_edge = float(rng.uniform(-1.85, -1.35) if kind == "obstacle_right" else rng.uniform(-2.15, -1.75))
        return Item(kind, start_m, start_m + 2 * SWERVE_M + length, near_edge, variant)
    return Item(kind, start_m, start_m + float(rng.uniform(15, 32)), 0.0, variant)


def _draw_bend(rng: np.random.Generator, item: Item, heading: float) -> Bend:
    """Sharp for a curve, slight elsewhere, none at a crossing; to the side that stays within TURN_LIMIT_RAD."""
    if item.kind in ("red", "green"):
        return Bend(item.start_m - 4, item.end_m, 0.0)
    size = rng.uniform(0.010, 0.045) if item.kind == "curve" else rng.uniform(0.0, 0.005)
    length = item.end_m - item.start_m
    size = min(size, 1.3 / length)
    sign = float(rng.choice([-1, 1]))
    if abs(heading + sign * size * length) > TURN_LIMIT_RAD:
        sign = -float(np.sign(heading))
    return Bend(item.start_m, item.end_m, float(sign * size))


def _draw_forks(rng: np.random.Generator, item: Item, bend: Bend) -> list[Fork]:
    """A crossing road under each light; elsewhere now and then a side road, in a bend sometimes straight on."""
    if item.kind in ("red", "green"):
        middle = item.start_m + sum(JUNCTION_M) / 2
        half = (JUNCTION_M[1] - JUNCTION_M[0]) / 2 - 0.5
        return [Fork(middle, side * np.pi / 2, half, 70.0) for side in (-1, 1)]
    chance, side = rng.uniform(), float(rng.choice([-1, 1]))
    if item.kind == "curve" and chance < 0.4:
        away = -float(np.sign(bend.curvature))
        return [Fork(bend.start_m, away * float(rng.uniform(0.0, 0.25)), 3.2, 90.0)]
    if item.kind in ("free", "curve") and chance < 0.8:
        return [Fork(item.start_m, side * float(rng.uniform(0.6, 1.3)), 3.0, 70.0, side * 0.004)]
    return []
