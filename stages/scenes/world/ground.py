"""The ground of a drawn scene: pavement, roads, and what is painted on them."""

from dataclasses import dataclass

import numpy as np

from stages.scenes.world.mesh import BACKGROUND, KEEP, ROAD, Color, Mesh, Sculptor
from stages.scenes.world.program import CROSSING_M, JUNCTION_M, Item, Program
from stages.scenes.world.roads import AHEAD_M, BEHIND_M, HALF_ROAD_M, HALF_WALK_M, LANE_D_M, Array, Road

_WHITE: Color = (228, 228, 222)
_MARKED_M = (-60.0, 230.0)  # nothing is painted beyond


@dataclass(frozen=True, eq=False)
class Surface:
    """A level polygon, painted before everything that stands."""

    ring: Array  # (n, 2) scene frame
    color: Color
    label: int


def pavement_ring(road: Road, side: float) -> Array:
    """The pavement on one side (+1 left, -1 right)."""
    d = (HALF_ROAD_M, HALF_WALK_M) if side > 0 else (-HALF_WALK_M, -HALF_ROAD_M)
    return road.strip((-BEHIND_M, AHEAD_M), d)


def main_ring(road: Road) -> Array:
    """The main road from kerb to kerb."""
    return road.strip((-BEHIND_M, AHEAD_M), (-HALF_ROAD_M, HALF_ROAD_M))


def surfaces(rng: np.random.Generator, road: Road) -> list[Surface]:
    """Pavements, then side roads, then the main road; each slightly of its own grey."""
    grey = float(rng.uniform(72, 104))
    walk = float(rng.uniform(135, 170))
    found = [Surface(pavement_ring(road, side), (walk, walk * 0.98, walk * 0.94), BACKGROUND) for side in (-1.0, 1.0)]
    for ring in road.side_rings():
        shade = grey * float(rng.uniform(0.82, 0.95))
        found.append(Surface(ring, (shade, shade * 0.98, shade * 0.95), ROAD))
    found.append(Surface(main_ring(road), (grey, grey, grey * 1.03), ROAD))
    return found


def markings(rng: np.random.Generator, road: Road, program: Program) -> Mesh:
    """Stains, shadows, lines, stop lines and zebras as quads that keep the class of the road below."""
    art = Sculptor()
    _stains(art, rng, road)
    gaps = [(item.start_m + JUNCTION_M[0] - 1, item.start_m + JUNCTION_M[1] + 1) for item in _lit(program)]
    gaps += [(item.start_m + CROSSING_M[0], item.start_m + CROSSING_M[1]) for item in _zebras(program)]
    dashes = _runs(road, np.arange(*_MARKED_M, 7.0), 3.2, (-0.08, 0.08), gaps)
    art.add(dashes, _WHITE, KEEP)
    for d in (-3.62, 3.62):
        art.add(_runs(road, np.arange(*_MARKED_M, 4.0), 4.0, (d - 0.06, d + 0.06), gaps), (200, 200, 196), KEEP)
    for item in _lit(program):
        art.add(_runs(road, np.array([item.start_m]), 0.45, (-3.5, -0.15), []), _WHITE, KEEP)
    for item in _zebras(program):
        art.add(_runs(road, np.array([item.start_m + 0.4]), 0.35, (-3.5, -0.15), []), _WHITE, KEEP)
        stripes = [
            _runs(road, np.array([item.start_m + CROSSING_M[0]]), CROSSING_M[1] - CROSSING_M[0], (d, d + 0.55), [])
            for d in np.arange(-5.6, 5.2, 1.15)
        ]
        art.add(np.concatenate(stripes), (235, 235, 230), KEEP)
    return art.finish()


def _lit(program: Program) -> list[Item]:
    return [item for item in program.items if item.kind in ("red", "green")]


def _zebras(program: Program) -> list[Item]:
    """Two crossings of three are painted; at the third people just cross."""
    return [item for item in program.items if item.kind == "pedestrian" and item.variant * 3 % 1 < 0.7]


def _runs(road: Road, s: Array, length_m: float, d: tuple[float, float], gaps: list[tuple[float, float]]) -> Array:
    """Quads (n, 4, 3) along the road that begin at each s, but for those in a gap."""
    for low, high in gaps:
        s = s[(s + length_m < low) | (s > high)]
    corners = [road.place(s, d[0]), road.place(s + length_m, d[0]), road.place(s + length_m, d[1]), road.place(s, d[1])]
    quads = np.stack(corners, axis=1)
    return np.concatenate([quads, np.zeros_like(quads[..., :1])], axis=-1)


def _stains(art: Sculptor, rng: np.random.Generator, road: Road) -> None:
    """Mended patches, shadows across the road and tracks: darker or lighter than the road, without meaning."""
    for _ in range(26):
        s, d = float(rng.uniform(-20, 140)), float(rng.uniform(-5.5, 4.5))
        tone = float(rng.uniform(52, 112))
        length, width = float(rng.uniform(0.6, 7)), float(rng.uniform(0.4, 1.6))
        art.add(_runs(road, np.array([s]), length, (d, d + width), []), (tone, tone, tone), KEEP)
    tone = float(rng.uniform(60, 84))
    for d in (LANE_D_M - 0.85, LANE_D_M + 0.6):
        art.add(_runs(road, np.arange(-60.0, 160.0, 4.0), 4.0, (d, d + 0.25), []), (tone, tone, tone), KEEP)
