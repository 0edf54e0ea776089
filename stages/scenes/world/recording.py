"""Writes the drawn world as a nuScenes data set, and its truth beside it.

Of a scene the images, class maps, lidar sweeps and bus messages (a worker does one scene at a time); of all scenes the
13 tables, the splits, and the maps as map expansion 1.3 (research/planning.md 3).
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from jaxtyping import Float
from numpy.typing import NDArray
from pyquaternion import Quaternion

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.layout import NO_CAN
from stages.scenes.world.camera import RIGS, ego_from_camera, intrinsic
from stages.scenes.world.drawing import FAR_M, draw, light_places
from stages.scenes.world.roads import CROSSING_M, HALF_ROAD_M, JUNCTION_M, Array
from stages.scenes.world.scenario import LOCATIONS, TICK_S, Scenario
from stages.scenes.world.weather import Image

CHANNELS = (*RIGS, "LIDAR_TOP")
JPEG_QUALITY = 92
FIRST_US = 1_700_000_000_000_000  # time of the first key frame of the first scene
_SCENE_US = 60_000_000
MARGIN_M = 100.0  # between scenes; the metric looks at 100 m x 100 m around the ego
LIDAR_M = (0.985793, 0.0, 1.84019)  # the LIDAR_TOP of the nuScenes car; its x axis points right, its y axis ahead
WHEELBASE_M = 2.588
STEERING_RATIO = 15.2  # steering wheel to road wheels
_BEARINGS = 24  # samples across an object, to tell how much of it is hidden
_GROUND_POINTS = 700
MARK = "drawn.txt"
_TEXT = "Drawn by `dvc repro make_world`; the next run of that stage replaces this folder.\n"
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
_LAYERS = (
    "node", "line", "polygon", "traffic_light", "drivable_area", "road_segment", "road_block", "lane", "ped_crossing",
    "walkway", "stop_line", "carpark_area", "road_divider", "lane_divider", "lane_connector",
)  # fmt: skip
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

    def __repr__(self) -> str:
        return f"{self.name} (seed {self.scenario.seed})"

    def token(self, *parts: object) -> str:
        """Token of a record of this scene; that of an image names its class map too."""
        return token(self.name, *parts)

    @property
    def logfile(self) -> str:
        """The name of the scene's log, of which its file names begin."""
        return f"n900-2026-01-{self.index % 28 + 1:02d}-{self.index // 28:02d}-00-00+0000"

    def time_us(self, step: int) -> int:
        """Time of a key frame; all sensors of the drawn car are read at once."""
        return FIRST_US + self.index * _SCENE_US + step * 500_000

    def file(self, step: int, channel: str) -> str:
        """Path of a key frame's file inside the root."""
        ending = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
        return f"samples/{channel}/{self.logfile}__{channel}__{self.time_us(step)}.{ending}"

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
        everything = _turned(np.concatenate([scenario.road.main_ring(), *scenario.road.side_rings()]), turn)
        low, high = everything.min(0) - MARGIN_M, everything.max(0) + MARGIN_M
        edge = edges.get(scenario.location, 0.0)
        sites.append(Site(name, index, scenario, turn, (float(edge - low[0]), float(-low[1]))))
        edges[scenario.location] = edge + float(high[0] - low[0])
    return sites


def rounded(values: Iterable[float], digits: int = 6) -> list[float]:
    """Numbers as they are written: rounded, so that another CPU, whose last bits differ, writes the same bytes."""
    return [round(float(value), digits) + 0.0 for value in values]  # + 0.0: no minus zero


def record(site: Site, root: Path, oracle_root: Path, size_px: tuple[int, int]) -> None:
    """Write a scene's files inside the root, and inside the oracle's. Equal sites write equal bytes."""
    cv2.setNumThreads(1)  # the scenes are spread over processes already
    for step in range(site.scenario.steps):
        for channel in RIGS:
            image, classes = draw(site.scenario, step, channel, size_px)
            io.write_bytes(root / site.file(step, channel), jpeg(image), sync=False)
            png = cv2.imencode(".png", classes, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
            truth = oracle_root / site.name / f"{site.token('sample_data', channel, step)}.png"
            io.write_bytes(truth, png.tobytes(), sync=False)
        points = lidar_points(site.scenario, step)
        io.write_bytes(root / site.file(step, "LIDAR_TOP"), points.tobytes(), sync=False)
    for message, values in _bus_messages(site).items():
        path = root / "can_bus" / f"{site.name}_{message}.json"
        io.write_bytes(path, json.dumps(values, allow_nan=False).encode(), sync=False)


def jpeg(image: Image) -> bytes:
    """An RGB image as the data set stores it."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


def _bus_messages(site: Site) -> dict[str, list[dict[str, Any]]]:
    """The car's pose at 50 Hz: place in the map frame, velocity and acceleration in the ego frame; and at 100 Hz the
    angle of the steering wheel, positive to the left.
    """
    start_us = site.time_us(0)
    times, poses, speed, acceleration, curvature = _track(site.scenario, 0.02)
    placed = site.pose_to_map(poses)
    pose = [
        {
            "utime": start_us + round(float(times[i]) * 1e6),
            "pos": rounded([placed[i, 0], placed[i, 1], 0.0]),
            "orientation": quaternion(placed[i, 2]),
            "vel": rounded([speed[i], 0.0, 0.0]),
            "accel": rounded([acceleration[i], speed[i] ** 2 * curvature[i], 9.81]),
            "rotation_rate": rounded([0.0, 0.0, speed[i] * curvature[i]]),
        }
        for i in range(len(times))
    ]
    times, _, _, _, curvature = _track(site.scenario, 0.01)
    angles = rounded(STEERING_RATIO * np.arctan(WHEELBASE_M * curvature))
    steering = [
        {"utime": start_us + round(float(t) * 1e6), "value": angle} for t, angle in zip(times, angles, strict=True)
    ]
    return {"pose": pose, "steeranglefeedback": steering}


def _track(scenario: Scenario, every_s: float) -> tuple[Array, Array, Array, Array, Array]:
    """Times (s), poses (n, 3) in the scene frame, speed, acceleration and curvature of the ego, `every_s` apart."""
    times = np.arange(0.0, (scenario.steps - 1) * 0.5 + every_s / 2, every_s)
    ticks = np.arange(len(scenario.traffic.ego_u_m)) * TICK_S
    u = np.interp(times, ticks, scenario.traffic.ego_u_m)
    speed, acceleration = (np.interp(times, ticks, v) for v in (scenario.traffic.ego_mps, scenario.traffic.ego_mps2))
    return times, scenario.path.pose(u), speed, acceleration, np.interp(u, scenario.path.u_m, scenario.path.curvature)


def quaternion(yaw_rad: float) -> list[float]:
    """w, x, y, z of a turn about the vertical axis."""
    return rounded([np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)], 9)


def seen_from_car(scenario: Scenario, step: int) -> tuple[Array, NDArray[np.int64]]:
    """For each actor the share of its width that nearer ones leave in sight, and the lidar points on it."""
    actors = scenario.actors
    x, y, _ = scenario.ego_poses[step]
    footprints = []
    for actor in actors:
        half = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (actor.size_wlh_m[1] / 2, actor.size_wlh_m[0] / 2)
        footprints.append(_turned(half, actor.poses[step, 2]) + actor.poses[step, :2])
    corners = np.array(footprints).reshape(len(actors), 4, 2) - (x, y)
    distance = np.linalg.norm(corners.mean(1), axis=1)
    bearing = np.arctan2(corners.mean(1)[:, 1], corners.mean(1)[:, 0])
    aside = np.angle(np.exp(1j * (np.arctan2(corners[..., 1], corners[..., 0]) - bearing[:, None])))
    low, high = aside.min(1).round(9), aside.max(1).round(9)
    heights = np.array([actor.size_wlh_m[2] for actor in actors])
    shares = np.zeros(len(actors))
    for index in np.flatnonzero(distance < FAR_M):
        looks = bearing[index] + np.linspace(low[index], high[index], _BEARINGS)
        before = (distance < distance[index] - 0.5) & (heights > 0.6 * heights[index])
        away = np.angle(np.exp(1j * (looks[:, None] - bearing[before]))).round(9)
        hidden = ((away > low[before]) & (away < high[before])).any(1)
        shares[index] = 1.0 - hidden.mean()
    away_m = np.array([np.hypot(actor.poses[step, 0] - x, actor.poses[step, 1] - y) for actor in actors])
    faces_m2 = np.array([actor.size_wlh_m[1] * actor.size_wlh_m[2] for actor in actors])
    return shares, np.clip(2500 * faces_m2 * shares / np.maximum(away_m, 3) ** 2, 1, 400).round(6).astype(int)


def lidar_points(scenario: Scenario, step: int) -> Float[np.ndarray, "n 5"]:
    """x, y, z in the LIDAR_TOP frame, intensity and ring: the ground in rings, and points on each actor's box."""
    rng = np.random.default_rng((scenario.seed, 3, step))
    shares, counts = seen_from_car(scenario, step)
    ring = rng.integers(0, 14, _GROUND_POINTS)
    radius = LIDAR_M[2] / np.tan(np.deg2rad(24 - 1.6 * ring))
    angle = rng.uniform(-np.pi, np.pi, _GROUND_POINTS)
    height, intensity = np.full(_GROUND_POINTS, -LIDAR_M[2]), rng.uniform(2, 25, _GROUND_POINTS)
    clouds = [np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height, intensity, ring])]
    ego_x, ego_y, ego_yaw = scenario.ego_poses[step]
    for actor, share, count in zip(scenario.actors, shares, counts.tolist(), strict=True):
        if share > 0:  # points inside the box near its surface
            w, length, h = actor.size_wlh_m
            local = rng.uniform(-0.49, 0.49, (count, 3))
            axis = rng.integers(0, 2, count)
            local[np.arange(count), axis] = np.sign(local[np.arange(count), axis]) * 0.49
            local = local * (length, w, h) + (0, 0, h / 2)
            x, y, yaw = actor.poses[step]
            away = _turned(local[:, :2], yaw) + (x - ego_x, y - ego_y)
            ego = _turned(away, -ego_yaw) - LIDAR_M[:2]
            intensity, ring = rng.uniform(5, 60, count), rng.integers(8, 32, count)
            clouds.append(np.column_stack([-ego[:, 1], ego[:, 0], local[:, 2] - LIDAR_M[2], intensity, ring]))
    return np.concatenate(clouds).round(4).astype(np.float32)


def claim(root: str, oracle_root: str | None) -> tuple[Path, Path]:
    """Both folders, empty but for a mark that says whose they are.

    Raises ParamsError without an oracle folder, DataError when a folder holds anything that this stage has not drawn.
    """
    if oracle_root is None:
        raise ParamsError(
            expected="a folder in scenes.oracle_root for the true class maps of the drawn world",
            got="null",
            fix="set scenes.oracle_root, or leave make_world out: real data needs no drawn world",
        )
    folders = Path(root), Path(oracle_root)
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise DataError(
                expected=f"{folder} empty or drawn by make_world",
                got="files that make_world has not drawn",
                fix="point scenes.root and scenes.oracle_root to other folders, or move those files away",
            )
    for folder in folders:
        (folder / io.MANIFEST).unlink(missing_ok=True)  # first, so that a half-emptied folder never counts as whole
        io.write_text(folder / MARK, _TEXT)
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != MARK:
                entry.unlink()
    return folders


def seal(root: Path, oracle_root: Path, version: str) -> int:
    """Write the oracle's manifest, then `<version>/identity.json`, then the world's manifest; returns images drawn.

    DVC stages downstream depend on <root>/<version> alone: identity.json changes whenever any file of the world or of
    the oracle does, and so stands for images, maps and bus messages there.
    """
    written, truths = ([p for p in folder.rglob("*") if p.is_file()] for folder in (root, oracle_root))
    images = sum(path.suffix == ".png" for path in truths)
    io.write_manifest(oracle_root, truths, {"images": images})
    oracle = io.sha256(oracle_root / io.MANIFEST)
    names = sorted(str(path.relative_to(root)) for path in written if path.name != MARK)
    everything = [(name, io.sha256(root / name)) for name in names]
    identity = root / version / "identity.json"
    io.write_json(identity, {"world": io.fingerprint(everything), "oracle_manifest_sha256": oracle})
    io.write_manifest(root, [identity, *written], {"images": images, "oracle_manifest_sha256": oracle})
    return images


def scene_names(count: int) -> list[str]:
    """`count` scene names that the CAN bus reader accepts."""
    numbers = [number for number in range(1, count + len(NO_CAN) + 1) if number not in NO_CAN]
    return [f"scene-{number:04d}" for number in numbers[:count]]


def write_tables(
    root: Path, version: str, sites: Sequence[Site], size_px: tuple[int, int], splits: Mapping[str, list[str]]
) -> None:
    """Write tables, splits and maps inside `root`."""
    tables = _Tables()
    for site in sites:
        tables.add_scene(site, size_px)
    for location in LOCATIONS:
        expansion, name = _Expansion(location, sites), token("map", location)
        logs = [site.token("log") for site in sites if site.scenario.location == location]
        picture = f"maps/{name}.png"
        tables.add("map", name, log_tokens=logs, category="semantic_prior", filename=picture)
        io.write_json(root / "maps" / "expansion" / f"{location}.json", expansion.layers)
        io.write_bytes(root / picture, expansion.overview())
    for name, content in {**tables.records, "splits": splits}.items():
        io.write_json(root / version / f"{name}.json", content)


class _Tables:
    """The 13 tables: what words mean, equal in every drawn data set, and what scenes and maps are added."""

    def __init__(self) -> None:
        self.records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for table, names in (("category", CATEGORIES), ("attribute", ATTRIBUTES)):
            for name in names:
                self.add(table, token(table, name), name=name, description="")
        for key, low, high in (("1", 0, 40), ("2", 40, 60), ("3", 60, 80), ("4", 80, 100)):
            said = f"visibility of whole object is between {low} and {high}%"
            self.add("visibility", key, level=f"v{low}-{high}", description=said)
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
        log, scene, logfile = site.token("log"), site.token("scene"), site.logfile
        samples = [site.token("sample", step) for step in range(steps)]
        times_us = [site.time_us(step) for step in range(steps)]
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
        lidar, calibration = channel == "LIDAR_TOP", site.token("calibrated_sensor", channel)
        if lidar:
            place, turn, lens = LIDAR_M, quaternion(-np.pi / 2), []
        else:
            rig = RIGS[channel]
            place, turn = rig.translation_m, rounded(Quaternion(matrix=ego_from_camera(rig)).elements, 9)
            lens = [rounded(row) for row in intrinsic(rig, size_px)]
        sensor = {"sensor_token": token("sensor", channel), "translation": rounded(place), "rotation": turn}
        self.add("calibrated_sensor", calibration, **sensor, camera_intrinsic=lens)
        width, height = (0, 0) if lidar else size_px
        kind = {"calibrated_sensor_token": calibration, "fileformat": "pcd" if lidar else "jpg", "is_key_frame": True}
        steps = range(site.scenario.steps)
        rows: list[dict[str, Any]] = []
        for step, (x, y, yaw) in zip(steps, site.pose_to_map(site.scenario.ego_poses[: len(steps)]), strict=True):
            pose, time_us = site.token("ego_pose", channel, step), site.time_us(step)
            self.add("ego_pose", pose, timestamp=time_us, rotation=quaternion(yaw), translation=rounded([x, y, 0.0]))
            row = {"sample_token": site.token("sample", step), "ego_pose_token": pose, "timestamp": time_us}
            rows.append({**kind, **row, "filename": site.file(step, channel), "width": width, "height": height})
        self._chain("sample_data", [site.token("sample_data", channel, step) for step in steps], rows)

    def _add_annotations(self, site: Site, samples: Sequence[str]) -> None:
        """Boxes of all actors within reach of the car, each actor one instance with one chain."""
        scenario = site.scenario
        looks = [seen_from_car(scenario, step) for step in range(scenario.steps)]
        shares, counts = (np.array(values) for values in zip(*looks, strict=True))
        for index, actor in enumerate(scenario.actors):
            near = np.flatnonzero(shares[:, index] > 0).tolist()
            if not near:
                continue
            instance = site.token("instance", index)
            keys = [site.token("sample_annotation", index, step) for step in near]
            rows = []
            for step, (x, y, yaw) in zip(near, site.pose_to_map(actor.poses)[near], strict=True):
                attribute, level = actor.attribute(step), 1 + sum(shares[step, index] >= e for e in (0.4, 0.6, 0.8))
                place = rounded([x, y, actor.size_wlh_m[2] / 2])
                box = {"translation": place, "size": rounded(actor.size_wlh_m), "rotation": quaternion(yaw)}
                points = {"num_lidar_pts": int(counts[step, index]), "num_radar_pts": 0}
                attributes = [token("attribute", attribute)] if attribute else []
                seen = {"visibility_token": str(level), "attribute_tokens": attributes}
                rows.append({"sample_token": samples[step], "instance_token": instance, **box, **points, **seen})
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
        self._roads: list[Array] = []
        for site in sites:
            if site.scenario.location == location:
                self._add_roads(site)
                self._add_crossings(site)
        self._edge_m = edge = [float(np.ceil(x + MARGIN_M)) for x in self._reach_m]
        self.layers = {"version": "1.3", "canvas_edge": edge, **self._content, "arcline_path_3": {}, "connectivity": {}}

    def overview(self) -> bytes:
        """Drivable area from above, one pixel a metre (nuScenes' own raster has ten; nothing here reads it)."""
        width, height = map(int, self._edge_m)
        picture = np.zeros((height, width), np.uint8)
        for ring in self._roads:
            pixels = np.column_stack([ring[:, 0], height - ring[:, 1]])
            cv2.fillPoly(picture, [np.rint(pixels.round(6)).astype(np.int32)], 255)
        return bytes(cv2.imencode(".png", picture)[1].tobytes())

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
        placed = [site.to_map(ring) for ring in rings]
        self._roads += placed
        polygons = [self._polygon(ring) for ring in placed]
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

        for item in site.scenario.items:
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
            kind = "PED_CROSSING" if crossings else "TRAFFIC_LIGHT"
            tokens = {"ped_crossing_tokens": crossings, "traffic_light_tokens": lights, "road_block_token": None}
            self._add("stop_line", polygon_token=stop, stop_line_type=kind, **tokens)

    def _add_light(self, site: Site, pose: Array, height_m: float, arm_m: float) -> str:
        """A vertical light; x of its pose is the direction in which it shines, against the ego's."""
        x, y, heading = site.pose_to_map(pose[None])[0]
        across = 0.48 * np.array([-np.sin(heading), np.cos(heading)])
        ends = np.array([(x, y) - across, (x, y) + across])
        turned, plain = {"rx": 0.0, "ry": 0.0, "rz": 0.0}, {"shape": "CIRCLE", "to_road_block_tokens": []}
        items = [
            {"color": color, "rel_pos": {"tx": 0.0, "ty": aside, "tz": up, **turned}, **plain}
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
