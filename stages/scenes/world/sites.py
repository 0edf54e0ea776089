"""Where the drawn scenes lie on the four maps, and those maps as map expansion 1.3 (research/planning.md 3.3)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from stages.scenes.world.roads import CROSSING_M, HALF_ROAD_M, JUNCTION_M, Array
from stages.scenes.world.scenario import Scenario
from stages.scenes.world.setting import light_places, main_ring, pavement_ring

MARGIN_M = 100.0  # between scenes; the metric looks at 100 m x 100 m around the ego
_RING_LAYERS = (
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
)
_EMPTY_LAYERS = ("road_divider", "lane_divider", "lane_connector")
# The lamps are larger than life. Each is recorded as two bulbs at its rim, so that the bulbs span the drawn housing.
_BULBS_M = (("RED", 1.02), ("YELLOW", 0.0), ("GREEN", -1.02))
_BULB_ASIDE_M = 0.35


def token(*parts: object) -> str:
    """A nuScenes-like token: 32 hexadecimal digits, equal for equal parts."""
    return hashlib.md5("|".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, eq=False)
class Site:
    """A scenario with its name and its place: scene-frame points are turned by `turn_rad`, then moved by `shift_m`."""

    name: str
    index: int  # in the data set
    scenario: Scenario
    turn_rad: float
    shift_m: tuple[float, float]

    def to_map(self, points: Array) -> Array:
        """Points (n, 2) of the scene frame in the map frame."""
        return _turned(points, self.turn_rad) + np.array(self.shift_m)

    def pose_to_map(self, poses: Array) -> Array:
        """Poses (n, 3) x, y, heading of the scene frame in the map frame."""
        return np.column_stack([self.to_map(poses[:, :2]), poses[:, 2] + self.turn_rad])


def _turned(points: Array, turn_rad: float) -> Array:
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    return points @ np.array([[c, s], [-s, c]])


def lay_out(names: Sequence[str], scenarios: Sequence[Scenario]) -> list[Site]:
    """A site for each scene: along a line on its location's map, MARGIN_M apart, each turned by its seed."""
    edges: dict[str, float] = {}
    sites = []
    for index, (name, scenario) in enumerate(zip(names, scenarios, strict=True)):
        turn = float(np.random.default_rng((scenario.seed, 4)).uniform(-np.pi, np.pi))
        everything = _turned(np.concatenate([main_ring(scenario.road), *scenario.road.side_rings()]), turn)
        low, high = everything.min(0) - MARGIN_M, everything.max(0) + MARGIN_M
        edge = edges.get(scenario.location, 0.0)
        sites.append(Site(name, index, scenario, turn, (float(edge - low[0]), float(-low[1]))))
        edges[scenario.location] = edge + float(high[0] - low[0])
    return sites


class _Expansion:
    """The layers of one location, filled scene by scene."""

    def __init__(self, location: str) -> None:
        self.location = location
        names = ("node", "line", "polygon", "traffic_light", *_RING_LAYERS, *_EMPTY_LAYERS)
        self.layers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        self.reach_m = np.array([1.0, 1.0])

    def add(self, layer: str, **fields: Any) -> str:
        name = token(self.location, layer, len(self.layers[layer]))
        self.layers[layer].append({"token": name, **fields})
        return name

    def nodes(self, points: Array) -> list[str]:
        self.reach_m = np.maximum(self.reach_m, points.max(0))
        return [self.add("node", x=float(x), y=float(y)) for x, y in points]

    def polygon(self, ring: Array, holes: Sequence[Array] = ()) -> str:
        inner = [{"node_tokens": self.nodes(hole)} for hole in holes]
        return self.add("polygon", exterior_node_tokens=self.nodes(ring), holes=inner)

    def finish(self) -> dict[str, Any]:
        edge = [float(np.ceil(x + MARGIN_M)) for x in self.reach_m]
        return {"version": "1.3", "canvas_edge": edge, **self.layers, "arcline_path_3": {}, "connectivity": {}}


def expansion(location: str, sites: Sequence[Site]) -> dict[str, Any]:
    """The map expansion of one location with all its scenes; layers that nothing drawn fills are empty lists."""
    found = _Expansion(location)
    for site in sites:
        if site.scenario.location == location:
            _add_roads(found, site)
            _add_crossings(found, site)
    return found.finish()


def _add_roads(found: _Expansion, site: Site) -> None:
    road = site.scenario.road
    rings = [main_ring(road), *road.side_rings()]
    polygons = [found.polygon(site.to_map(ring)) for ring in rings]
    area = found.add("drivable_area", polygon_tokens=polygons)
    for polygon in polygons:
        found.add("road_segment", polygon_token=polygon, is_intersection=False, drivable_area_token=area)
    roads = shapely.union_all([shapely.Polygon(ring).buffer(0) for ring in rings])
    for side in (-1.0, 1.0):
        # Where a side road leaves, the pavement is interrupted, as it is drawn.
        for part in shapely.get_parts(shapely.Polygon(pavement_ring(road, side)).buffer(0).difference(roads)):
            holes = [site.to_map(np.array(hole.coords)[:-1]) for hole in part.interiors]
            ring = site.to_map(np.array(part.exterior.coords)[:-1])
            found.add("walkway", polygon_token=found.polygon(ring, holes))


def _add_crossings(found: _Expansion, site: Site) -> None:
    """Traffic lights with their stop lines, and zebras with theirs."""
    road = site.scenario.road
    for item in site.scenario.program.items:
        stop = (
            found.polygon(site.to_map(road.strip((item.start_m, item.start_m + 0.45), (-3.6, 0.0))))
            if _stops(item.kind)
            else ""
        )
        if item.kind in ("red", "green"):
            lights = [_add_light(found, site, *place) for place in light_places(road, item)]
            middle = road.strip(
                (item.start_m + JUNCTION_M[0], item.start_m + JUNCTION_M[1]), (-HALF_ROAD_M, HALF_ROAD_M)
            )
            polygon = found.polygon(site.to_map(middle))
            area = found.layers["drivable_area"][-1]["token"]
            found.add("road_segment", polygon_token=polygon, is_intersection=True, drivable_area_token=area)
            _add_stop(found, stop, "TRAFFIC_LIGHT", [], lights)
        elif item.kind == "pedestrian":
            ring = road.strip((item.start_m + CROSSING_M[0], item.start_m + CROSSING_M[1]), (-HALF_ROAD_M, HALF_ROAD_M))
            crossing = found.add("ped_crossing", polygon_token=found.polygon(site.to_map(ring)), road_segment_token="")
            _add_stop(found, stop, "PED_CROSSING", [crossing], [])


def _stops(kind: str) -> bool:
    return kind in ("red", "green", "pedestrian")


def _add_stop(found: _Expansion, polygon: str, kind: str, crossings: list[str], lights: list[str]) -> None:
    found.add(
        "stop_line",
        polygon_token=polygon,
        stop_line_type=kind,
        ped_crossing_tokens=crossings,
        traffic_light_tokens=lights,
        road_block_token=None,
    )


def _add_light(found: _Expansion, site: Site, pose: Array, height_m: float, arm_m: float) -> str:
    """A vertical light; x of its pose is the direction in which it shines, against the ego's."""
    x, y, heading = site.pose_to_map(pose[None])[0]
    across = 0.48 * np.array([-np.sin(heading), np.cos(heading)])
    ends = np.array([(x, y) - across, (x, y) + across])
    items = [
        {
            "color": color,
            "shape": "CIRCLE",
            "rel_pos": {"tx": 0.0, "ty": aside, "tz": up, "rx": 0.0, "ry": 0.0, "rz": 0.0},
            "to_road_block_tokens": [],
        }
        for color, up in _BULBS_M
        for aside in (-_BULB_ASIDE_M, _BULB_ASIDE_M)
    ]
    place = {"tx": float(x), "ty": float(y), "tz": height_m + 1.15, "rx": 0.0, "ry": 0.0, "rz": float(heading + np.pi)}
    return found.add(
        "traffic_light",
        line_token=found.add("line", node_tokens=found.nodes(ends)),
        traffic_light_type="VERTICAL",
        from_road_block_token=None,
        items=items,
        pose=place,
    )
