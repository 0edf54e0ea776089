"""How fast plans are scored, against the plain ways of doing it; results must be the same.

    python -m stages.planning.bench            # 1,000 samples of 6 steps and 30 boxes, in turns, medians and ratios

- boxes: impromptu's exact test against a loop of shapely over pairs.
- road: omnidrive's box on the drivable area against drawing each box on a raster of its own, as the official code does.
- plan: `judge` of each protocol, of a sample prepared once, beside `prepare`.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stages.planning import base, impromptu, omnidrive
from stages.planning.base import Agents, Truth
from stages.planning.geometry import CELLS, box_corners

ROUNDS = 5
Hits = Bool[np.ndarray, " T"]


def samples(count: int, boxes: int, seed: int = 0) -> list[tuple[Float[np.ndarray, "6 2"], Truth]]:
    """Plans and truths on a road 14 m wide among parked and driving vehicles, a few of them in the way."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        speed_mps, turn = draw.uniform(0, 15), draw.uniform(-0.05, 0.05)
        plan_m, future_m = (_path(speed_mps, turn + draw.normal(0, 0.01)) for _ in range(2))
        drivable = np.zeros((CELLS, CELLS), bool)
        drivable[430 + draw.integers(-20, 20) : 570] = True
        found.append((plan_m, _truth(str(number), future_m, _agents(draw, boxes), drivable)))
    return found


def _path(speed_mps: float, turn: float) -> Float[np.ndarray, "6 2"]:
    way_m = 0.5 * speed_mps * np.arange(1, 7)
    return np.stack([way_m, turn * way_m**2 / 4], axis=1)


def _agents(draw: np.random.Generator, count: int) -> Agents:
    start_m = np.stack([draw.uniform(-40, 45, count), draw.choice([-6.0, -3.0, 0.0, 3.0, 6.0], count)], axis=1)
    way_m = draw.uniform(-2, 7, (count, 1)) * np.arange(7)
    centers_m = start_m[:, None] + np.stack([way_m, 0 * way_m], axis=-1)
    yaws = np.repeat(draw.normal(0, 0.1, (count, 1)), 7, axis=1)
    lidar_m = np.stack([-centers_m[..., 1], centers_m[..., 0]], axis=-1)
    ones = np.ones((count, 7), np.int64)
    sizes = draw.uniform([3.5, 1.6], [9, 2.6], (count, 2))
    ego = centers_m, yaws
    return Agents(
        ("vehicle.car",) * count, sizes, *ego, *ego, lidar_m, yaws + np.pi / 2, ones[:, 0] > 0, 4 * ones, ones, ones
    )


def _truth(token: str, future_m: Float[np.ndarray, "6 2"], agents: Agents, drivable: Bool[np.ndarray, "c c"]) -> Truth:
    lidar_m = np.stack([-future_m[:, 1], future_m[:, 0]], axis=1)
    curbs_m = np.array([[[-50.0, side], [50.0, side]] for side in (-7.0, 7.0)])
    return Truth(token, "scene", future_m, np.ones(6, bool), agents, drivable, lidar_m, 2, curbs_m)


def boxes_at_once(plan_m: Float[np.ndarray, "6 2"], truth: Truth) -> Bool[np.ndarray, " 6"]:
    """Steps at which the ego touches a box, all pairs together."""
    return impromptu.hits_of(plan_m, *impromptu.obstacles(truth.agents))


def boxes_by_pair(plan_m: Float[np.ndarray, "6 2"], truth: Truth) -> Bool[np.ndarray, " 6"]:
    """The same, a shapely polygon and a question for each pair."""
    import shapely

    agents, hits = truth.agents, np.zeros(6, bool)
    ego_m = impromptu.ego_corners_m(plan_m)
    for step in range(6):
        ego = shapely.Polygon(ego_m[step])
        for i in range(len(agents.categories)):
            one = slice(i, i + 1)
            place = agents.centers_lidar_m[one, step + 1], agents.yaws_lidar_rad[one, step + 1]
            hits[step] |= ego.intersects(shapely.Polygon(box_corners(*place, agents.sizes_lw_m[one])[0]))
    return hits


def road_by_window(plan_m: Float[np.ndarray, "6 2"], drivable: Bool[np.ndarray, "1000 1000"]) -> Bool[np.ndarray, " 7"]:
    """Steps at which the ego's box, step 0 is now, covers a cell that is no road: only cells near it are asked."""
    return omnidrive.off_road(plan_m, drivable)


def road_by_drawing(
    plan_m: Float[np.ndarray, "6 2"], drivable: Bool[np.ndarray, "1000 1000"]
) -> Bool[np.ndarray, " 7"]:
    """The same, each box drawn on a raster of its own and compared with all of the road."""
    import cv2

    off = np.zeros(7, bool)
    for step, corners in enumerate(omnidrive.ego_cells(plan_m)):
        canvas = np.zeros((CELLS, CELLS))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], 1.0)
        off[step] = ((canvas == 1) & ~drivable).any()
    return off


def in_turns(ways: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of the processor that each way takes, run one after the other in every round."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for took, way in zip(seconds, ways, strict=True):
            start = time.process_time()
            way()
            took.append(time.process_time() - start)
    return [statistics.median(took) for took in seconds]


def main(count: int = 1000, boxes: int = 30) -> None:
    """Print what each way takes a sample."""
    cases = samples(count, boxes)
    _compare("boxes", boxes_at_once, boxes_by_pair, cases)
    _compare("road", road_by_window, road_by_drawing, [(plan_m, _road(truth)) for plan_m, truth in cases])
    for name in base.available():
        prepare, judge = base.load_parts(name)
        ready = [(plan_m, prepare(truth)) for plan_m, truth in cases]
        ways = partial(_all, prepare, [(truth,) for _, truth in cases]), partial(_all, judge, ready)
        made, judged = (1e3 * seconds / count for seconds in in_turns(ways))
        print(f"{name}: prepare {made:.3f} ms, judge {judged:.3f} ms")


def _compare(name: str, ours: Callable[..., Hits], plain: Callable[..., Hits], inputs: Sequence[Any]) -> None:
    same = np.array_equal(_all(ours, inputs), _all(plain, inputs))
    fast, slow = (1e3 * s / len(inputs) for s in in_turns([partial(_all, way, inputs) for way in (ours, plain)]))
    print(f"{name}: {fast:.3f} ms, plain {slow:.3f} ms, {slow / fast:.1f} times as long, same: {same}")


def _all(way: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    return [way(*one) for one in inputs]


def _road(truth: Truth) -> Bool[np.ndarray, "1000 1000"]:
    assert truth.drivable is not None
    return truth.drivable


if __name__ == "__main__":
    main()
