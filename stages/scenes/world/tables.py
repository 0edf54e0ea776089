"""The 13 tables of a drawn data set, its splits, and its maps as map expansion 1.3 (research/planning.md 3)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from pyquaternion import Quaternion

from stages.core import io
from stages.scenes.world import recording
from stages.scenes.world.camera import RIGS, ego_from_camera, intrinsic
from stages.scenes.world.recording import CHANNELS, MARGIN_M, Site, quaternion, rounded, sample_token, token
from stages.scenes.world.roads import CROSSING_M, HALF_ROAD_M, JUNCTION_M, Array
from stages.scenes.world.scenario import LOCATIONS
from stages.scenes.world.setting import light_places

# The row order of nuScenes' own table: codes of its tools count rows, and some evaluators index them.
CATEGORIES = (
    "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.wheelchair", "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.construction_worker",
    "animal", "vehicle.car", "vehicle.motorcycle", "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid",
    "vehicle.truck", "vehicle.construction", "vehicle.emergency.ambulance", "vehicle.emergency.police",
    "vehicle.trailer", "movable_object.barrier", "movable_object.trafficcone", "movable_object.pushable_pullable",
    "movable_object.debris", "static_object.bicycle_rack",
)  # fmt: skip
ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip
VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
_LAYERS = (
    "node", "line", "polygon", "traffic_light", "drivable_area", "road_segment", "road_block", "lane", "ped_crossing",
    "walkway", "stop_line", "carpark_area", "road_divider", "lane_divider", "lane_connector",
)  # fmt: skip
# The lamps are larger than life. Each is recorded as two bulbs at its rim, so that the bulbs span the drawn housing.
_BULBS_M = (("RED", 1.02), ("YELLOW", 0.0), ("GREEN", -1.02))
_BULB_ASIDE_M = 0.35
_NO_CAN = {*range(161, 169), *range(170, 177), *range(309, 315)}  # the devkit refuses bus messages of these scenes


def scene_names(count: int) -> list[str]:
    """`count` scene names that the CAN bus reader accepts."""
    numbers = [number for number in range(1, count + len(_NO_CAN) + 1) if number not in _NO_CAN]
    return [f"scene-{number:04d}" for number in numbers[:count]]


def write_tables(
    root: Path, version: str, sites: Sequence[Site], size_px: tuple[int, int], splits: Mapping[str, list[str]]
) -> list[str]:
    """Write tables, splits and maps; returns their paths inside `root`."""
    tables = _Tables()
    for site in sites:
        tables.add_scene(site, size_px)
    written = []
    for location in LOCATIONS:
        layers, name = _Expansion(location, sites).layers, token("map", location)
        logs = [token(site.name, "log") for site in sites if site.scenario.location == location]
        picture = f"maps/{name}.png"
        tables.add("map", name, log_tokens=logs, category="semantic_prior", filename=picture)
        written += [f"maps/expansion/{location}.json", picture]
        io.write_json(root / written[-2], layers)
        io.write_bytes(root / picture, _overview(layers))
    for name, content in {**tables.records, "splits": splits}.items():
        written.append(f"{version}/{name}.json")
        io.write_json(root / written[-1], content)
    return written


def event_table(sites: Sequence[Site]) -> dict[str, str]:
    """The event of each key frame, by its sample token."""
    return {sample_token(s, step): s.scenario.event(step) for s in sites for step in range(s.scenario.steps)}


def _overview(layers: Mapping[str, Any]) -> bytes:
    """Drivable area from above, one pixel a metre (nuScenes' own raster has ten; nothing here reads it)."""
    width, height = (int(edge) for edge in layers["canvas_edge"])
    picture = np.zeros((height, width), np.uint8)
    places = {node["token"]: (node["x"], height - node["y"]) for node in layers["node"]}
    rings = {p["token"]: np.array([places[node] for node in p["exterior_node_tokens"]]) for p in layers["polygon"]}
    for area in layers["drivable_area"]:
        for polygon in area["polygon_tokens"]:
            cv2.fillPoly(picture, [np.rint(rings[polygon]).astype(np.int32)], 255)
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


class _Tables:
    """The 13 tables: what words mean, equal in every drawn data set, and what scenes and maps are added."""

    def __init__(self) -> None:
        self.records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for table, names in (("category", CATEGORIES), ("attribute", ATTRIBUTES)):
            for name in names:
                self.add(table, token(table, name), name=name, description="")
        for key, level in VISIBILITIES.items():
            share = level[1:].replace("-", " and ")
            self.add("visibility", key, level=level, description=f"visibility of whole object is between {share}%")
        for name in CHANNELS:
            modality = "lidar" if name == "LIDAR_TOP" else "camera"
            self.add("sensor", token("sensor", name), channel=name, modality=modality)

    def add(self, table: str, key: str, **fields: Any) -> None:
        """One record, whose token is `key`."""
        self.records[table].append({"token": key, **fields})

    def _chain(self, table: str, keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """Records that follow one another."""
        for before, key, after, row in zip(["", *keys[:-1]], keys, [*keys[1:], ""], rows, strict=True):
            self.add(table, key, prev=before, next=after, **row)

    def add_scene(self, site: Site, size_px: tuple[int, int]) -> None:
        """All records of a scene."""
        scenario, steps = site.scenario, site.scenario.steps
        log, scene, logfile = token(site.name, "log"), token(site.name, "scene"), recording.logfile(site)
        samples = [sample_token(site, step) for step in range(steps)]
        times_us = [recording.timestamp_us(site, step) for step in range(steps)]
        self.add("log", log, logfile=logfile, vehicle="n900", date_captured=logfile[5:15], location=scenario.location)
        ends = {"first_sample_token": samples[0], "last_sample_token": samples[-1]}
        names = {"name": site.name, "description": scenario.description}
        self.add("scene", scene, log_token=log, nbr_samples=steps, **ends, **names)
        self._chain("sample", samples, [{"timestamp": time_us, "scene_token": scene} for time_us in times_us])
        for channel in CHANNELS:
            self._add_sensor(site, channel, size_px)
        self._add_annotations(site, samples)

    def _add_sensor(self, site: Site, channel: str, size_px: tuple[int, int]) -> None:
        """A sensor's calibration, its files, and the ego pose of each."""
        lidar, calibration = channel == "LIDAR_TOP", token(site.name, "calibrated_sensor", channel)
        if lidar:
            place, turn, lens = recording.LIDAR_M, quaternion(-np.pi / 2), []
        else:
            rig = RIGS[channel]
            place, turn = rig.translation_m, rounded(Quaternion(matrix=ego_from_camera(rig)).elements, 9)
            lens = [rounded(row) for row in intrinsic(rig, size_px)]
        sensor = {"sensor_token": token("sensor", channel), "translation": rounded(place), "rotation": turn}
        self.add("calibrated_sensor", calibration, **sensor, camera_intrinsic=lens)
        width, height = (0, 0) if lidar else size_px
        steps = range(site.scenario.steps)
        rows = []
        for step, (x, y, yaw) in zip(steps, site.pose_to_map(site.scenario.ego_poses[: len(steps)]), strict=True):
            pose, time_us = token(site.name, "ego_pose", channel, step), recording.timestamp_us(site, step)
            self.add("ego_pose", pose, timestamp=time_us, rotation=quaternion(yaw), translation=rounded([x, y, 0.0]))
            rows.append(
                {
                    "sample_token": sample_token(site, step),
                    "ego_pose_token": pose,
                    "calibrated_sensor_token": calibration,
                    "timestamp": time_us,
                    "fileformat": "pcd" if lidar else "jpg",
                    "is_key_frame": True,
                    "height": height,
                    "width": width,
                    "filename": recording.sensor_file(site, step, channel),
                }
            )
        self._chain("sample_data", [recording.sample_data_token(site, step, channel) for step in steps], rows)

    def _add_annotations(self, site: Site, samples: Sequence[str]) -> None:
        """Boxes of all actors within reach of the car, each actor one instance with one chain."""
        scenario = site.scenario
        shares = np.array([recording.visible_share(scenario, step) for step in range(scenario.steps)])
        counts = np.array([recording.lidar_counts(scenario, step, shares[step]) for step in range(scenario.steps)])
        for index, actor in enumerate(scenario.actors):
            near = np.flatnonzero(shares[:, index] > 0).tolist()
            if not near:
                continue
            instance = token(site.name, "instance", index)
            keys = [token(site.name, "sample_annotation", index, step) for step in near]
            rows = []
            for step, (x, y, yaw) in zip(near, site.pose_to_map(actor.poses)[near], strict=True):
                attribute = actor.attribute(step)
                rows.append(
                    {
                        "sample_token": samples[step],
                        "instance_token": instance,
                        "visibility_token": str(1 + sum(shares[step, index] >= edge for edge in (0.4, 0.6, 0.8))),
                        "attribute_tokens": [token("attribute", attribute)] if attribute else [],
                        "translation": rounded([x, y, actor.size_wlh_m[2] / 2]),
                        "size": rounded(actor.size_wlh_m),
                        "rotation": quaternion(yaw),
                        "num_lidar_pts": int(counts[step, index]),
                        "num_radar_pts": 0,
                    }
                )
            self._chain("sample_annotation", keys, rows)
            ends = {"first_annotation_token": keys[0], "last_annotation_token": keys[-1]}
            category = token("category", actor.category)
            self.add("instance", instance, category_token=category, nbr_annotations=len(keys), **ends)


class _Expansion:
    """The map expansion of one location with all its scenes; layers that nothing drawn fills are empty lists."""

    def __init__(self, location: str, sites: Sequence[Site]) -> None:
        self._location = location
        self._content: dict[str, list[dict[str, Any]]] = {name: [] for name in _LAYERS}
        self._reach_m = np.array([1.0, 1.0])
        for site in sites:
            if site.scenario.location == location:
                self._add_roads(site)
                self._add_crossings(site)
        edge = [float(np.ceil(x + MARGIN_M)) for x in self._reach_m]
        self.layers = {"version": "1.3", "canvas_edge": edge, **self._content, "arcline_path_3": {}, "connectivity": {}}

    def _add(self, layer: str, **fields: Any) -> str:
        name = token(self._location, layer, len(self._content[layer]))
        self._content[layer].append({"token": name, **fields})
        return name

    def _nodes(self, points: Array) -> list[str]:
        self._reach_m = np.maximum(self._reach_m, points.max(0))
        return [self._add("node", x=x, y=y) for x, y in map(rounded, points)]

    def _polygon(self, ring: Array, holes: Sequence[Array] = ()) -> str:
        inner = [{"node_tokens": self._nodes(hole)} for hole in holes]
        return self._add("polygon", exterior_node_tokens=self._nodes(ring), holes=inner)

    def _add_roads(self, site: Site) -> None:
        road = site.scenario.road
        rings = [road.main_ring(), *road.side_rings()]
        polygons = [self._polygon(site.to_map(ring)) for ring in rings]
        area = self._add("drivable_area", polygon_tokens=polygons)
        for polygon in polygons:
            self._add("road_segment", polygon_token=polygon, is_intersection=False, drivable_area_token=area)
        roads = shapely.union_all([shapely.Polygon(ring.round(6)).buffer(0) for ring in rings])
        for side in (-1.0, 1.0):
            # Where a side road leaves, the pavement is interrupted, as it is drawn.
            pavement = shapely.Polygon(road.pavement_ring(side).round(6)).buffer(0)
            for part in shapely.get_parts(pavement.difference(roads)):
                holes = [site.to_map(np.array(hole.coords)[:-1]) for hole in part.interiors]
                ring = site.to_map(np.array(part.exterior.coords)[:-1])
                self._add("walkway", polygon_token=self._polygon(ring, holes))

    def _add_crossings(self, site: Site) -> None:
        """Traffic lights with their stop lines, and zebras with theirs."""
        road, kerbs_m = site.scenario.road, (-HALF_ROAD_M, HALF_ROAD_M)

        def polygon(start_m: float, span_m: tuple[float, float], d_m: tuple[float, float]) -> str:
            return self._polygon(site.to_map(road.strip((start_m + span_m[0], start_m + span_m[1]), d_m)))

        for item in site.scenario.program.items:
            if item.kind not in ("red", "green", "pedestrian"):
                continue
            stop = polygon(item.start_m, (0.0, 0.45), (-3.6, 0.0))
            crossings, lights = [], []
            if item.kind == "pedestrian":
                zebra = polygon(item.start_m, CROSSING_M, kerbs_m)
                crossings = [self._add("ped_crossing", polygon_token=zebra, road_segment_token="")]
            else:
                lights = [self._add_light(site, *place) for place in light_places(road, item)]
                junction, area = polygon(item.start_m, JUNCTION_M, kerbs_m), self._content["drivable_area"][-1]["token"]
                self._add("road_segment", polygon_token=junction, is_intersection=True, drivable_area_token=area)
            self._add(
                "stop_line",
                polygon_token=stop,
                stop_line_type="PED_CROSSING" if crossings else "TRAFFIC_LIGHT",
                ped_crossing_tokens=crossings,
                traffic_light_tokens=lights,
                road_block_token=None,
            )

    def _add_light(self, site: Site, pose: Array, height_m: float, arm_m: float) -> str:
        """A vertical light; x of its pose is the direction in which it shines, against the ego's."""
        x, y, heading = site.pose_to_map(pose[None])[0]
        across = 0.48 * np.array([-np.sin(heading), np.cos(heading)])
        ends = np.array([(x, y) - across, (x, y) + across])
        turned = {"rx": 0.0, "ry": 0.0, "rz": 0.0}
        items = [
            {
                "color": color,
                "shape": "CIRCLE",
                "rel_pos": {"tx": 0.0, "ty": aside, "tz": up, **turned},
                "to_road_block_tokens": [],
            }
            for color, up in _BULBS_M
            for aside in (-_BULB_ASIDE_M, _BULB_ASIDE_M)
        ]
        place = dict(zip(("tx", "ty", "tz"), rounded([x, y, height_m + 1.15]), strict=True))
        return self._add(
            "traffic_light",
            line_token=self._add("line", node_tokens=self._nodes(ends)),
            traffic_light_type="VERTICAL",
            from_road_block_token=None,
            items=items,
            pose=place | turned | {"rz": rounded([heading + np.pi], 9)[0]},
        )
