"""One location's map expansion: polygons near a point and traffic lights as boxes. Takes a loaded NuScenesMap."""

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from stages.scenes.base import Boxes, yaw_rad

Polygon = tuple[str, NDArray[np.float64], tuple[NDArray[np.float64], ...]]  # layer, exterior (P, 2), holes (P, 2), m

# Spacing of bulbs in nuScenes' records (0.381 - 0.130, rounded up): a housing ends half of it past a bulb.
BULB_M = 0.26
HOUSING_DEPTH_M = 0.2
CURB_LAYERS = ("road_segment", "lane")  # BEV-Planner: the outline of both together is where a road ends
CURB_PATCH_M = (102.4, 50.0)  # its patch around the ego, along and across
CURB_MARGIN_M = 0.2  # lines this near the patch's own border are where the map was cut, no curb
CURB_POINTS = 20  # a curb of any length becomes as many points, equally far apart


class Location:
    """Geometry of one `NuScenesMap`, read once and kept as a search tree."""

    def __init__(self, map_api: Any) -> None:
        self.map_api = map_api
        self._layer = lru_cache(maxsize=None)(self._read_layer)
        self.polygons = lru_cache(maxsize=4)(self._polygons)  # the six cameras of a frame ask for the same circle

    def _polygons(self, layers: tuple[str, ...], center_xy_m: tuple[float, float], radius_m: float) -> list[Polygon]:
        circle = shapely.Point(center_xy_m).buffer(radius_m)
        pieces: list[Polygon] = []
        for layer in layers:
            shapes, _, tree = self._layer(layer)
            for index in sorted(tree.query(circle, predicate="intersects")):
                for part in shapely.get_parts(shapes[index].intersection(circle)):
                    if part.geom_type == "Polygon" and not part.is_empty:
                        pieces.append((layer, _ring(part.exterior), tuple(_ring(hole) for hole in part.interiors)))
        return pieces

    def curbs_m(self, global_from_ego: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, 2, 2) ego frame: the outline of road segments and lanes around an ego as S lines from point to point.

        As BEV-Planner makes it (mmdet3d/datasets/vector_map.py, 2024): cut to a patch that turns with the ego's yaw,
        united, and each outline resampled to 20 points, so that a bend is cut short.
        """
        heading = yaw_rad(global_from_ego)
        turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
        reach_m = np.array(CURB_PATCH_M) / 2
        corners_m = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * reach_m
        patch = shapely.Polygon(corners_m @ turn.T + global_from_ego[:2, 3])
        pieces = []
        for layer in CURB_LAYERS:
            shapes, valid, tree = self._layer(layer)
            near = sorted(tree.query(patch, predicate="intersects"))
            pieces += [shapes[i].intersection(patch) for i in near if valid[i]]  # BEV-Planner passes over the others
        united = shapely.transform(shapely.union_all(pieces), lambda xy: (xy - global_from_ego[:2, 3]) @ turn)
        inner = shapely.box(*(CURB_MARGIN_M - reach_m), *(reach_m - CURB_MARGIN_M))
        lines = [shapely.line_merge(ring.intersection(inner)) for ring in _rings(united)]
        return _chords(shapely.get_parts(lines), reach_m)

    def traffic_lights(self, center_xy_m: NDArray[np.float64], radius_m: float) -> Boxes:
        """Housings within `radius_m`; centre z is metres above the ground, as the map gives it."""
        every = self._lights
        near = np.flatnonzero(np.linalg.norm(every.centers_m[:, :2] - center_xy_m, axis=1) <= radius_m)
        names, tokens = (tuple(column[i] for i in near) for column in (every.categories, every.instances))
        return Boxes(names, tokens, every.centers_m[near], every.sizes_wlh_m[near], every.rotations_wxyz[near])

    def _read_layer(self, layer: str) -> tuple[list[Any], NDArray[np.bool_], Any]:
        """Shapes, repaired where they cross themselves; which of them were valid; their tree."""
        records = getattr(self.map_api, layer)
        tokens = [t for r in records for t in (r["polygon_tokens"] if "polygon_tokens" in r else [r["polygon_token"]])]
        raw = [self.map_api.extract_polygon(token) for token in tokens]
        shapes = [shapely.make_valid(shape) for shape in raw]
        return shapes, shapely.is_valid(raw), shapely.STRtree(shapes)

    @cached_property
    def _lights(self) -> Boxes:
        records = [record for record in self.map_api.traffic_light if record.get("items")]
        boxes = np.array([_housing(record) for record in records]).reshape(-1, 10)
        names, tokens = ("traffic_light",) * len(records), tuple(record["token"] for record in records)
        return Boxes(names, tokens, boxes[:, :3], boxes[:, 3:6], boxes[:, 6:])


def _ring(ring: Any) -> NDArray[np.float64]:
    """Vertices without the repeated last one."""
    return np.array(ring.coords)[:-1, :2]


def _rings(shape: Any) -> list[Any]:
    polygons = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    return [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]


def _chords(lines: Any, reach_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, 2, 2): CURB_POINTS - 1 lines between equally distant points of each line, kept inside the patch."""
    lines = [line for line in lines if line.geom_type == "LineString" and not line.is_empty]
    shares = np.linspace(0, 1, CURB_POINTS)
    points_m = shapely.get_coordinates([shapely.line_interpolate_point(line, shares * line.length) for line in lines])
    points_m = np.clip(points_m.reshape(-1, CURB_POINTS, 2), -reach_m, reach_m)
    return np.stack([points_m[:, :-1], points_m[:, 1:]], axis=2).reshape(-1, 2, 2).round(9)


def _housing(record: dict[str, Any]) -> list[float]:
    """Centre, size (w, l, h) and rotation of the box around a record's bulbs; x of its pose is where it shines."""
    place = record["pose"]
    bulbs_m = np.array([[item["rel_pos"][key] for key in ("tx", "ty", "tz")] for item in record["items"]], float)
    low_m, high_m = bulbs_m.min(0) - BULB_M / 2, bulbs_m.max(0) + BULB_M / 2
    depth, width, height = np.maximum(high_m - low_m, [HOUSING_DEPTH_M, 0, 0])
    cos, sin = np.cos(place["rz"]), np.sin(place["rz"])
    x, y, z = (low_m + high_m) / 2
    center_m = [place["tx"] + cos * x - sin * y, place["ty"] + sin * x + cos * y, place["tz"] + z]
    return [*center_m, width, depth, height, np.cos(place["rz"] / 2), 0.0, 0.0, np.sin(place["rz"] / 2)]
