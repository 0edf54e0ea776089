"""Writes one drawn scene: images, class maps, lidar sweeps and bus messages. A worker does one scene at a time."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.oracle import EVENTS_FILE
from stages.scenes.world.camera import RIGS
from stages.scenes.world.drawing import draw
from stages.scenes.world.roads import Array
from stages.scenes.world.scenario import Actor, Scenario
from stages.scenes.world.setting import FAR_M
from stages.scenes.world.traffic import TICK_S
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


def timestamp_us(site: Site, step: int) -> int:
    """Time of a key frame; all sensors of the drawn car are read at once."""
    return FIRST_US + site.index * _SCENE_US + step * 500_000


def logfile(site: Site) -> str:
    """The name of a scene's log, of which its file names begin."""
    return f"n900-2026-01-{site.index % 28 + 1:02d}-{site.index // 28:02d}-00-00+0000"


def sensor_file(site: Site, step: int, channel: str) -> str:
    """Path of a key frame's file inside the root."""
    ending = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    return f"samples/{channel}/{logfile(site)}__{channel}__{timestamp_us(site, step)}.{ending}"


def sample_token(site: Site, step: int) -> str:
    """Token of a key frame's sample record, and its name among the oracle's events."""
    return token(site.name, "sample", step)


def sample_data_token(site: Site, step: int, channel: str) -> str:
    """Token of a key frame's sample_data record, and name of its class map."""
    return token(site.name, "sample_data", channel, step)


def record(site: Site, root: Path, oracle_root: Path, size_px: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Write a scene's files; their paths inside the root, and inside the oracle's. Equal sites write equal bytes."""
    cv2.setNumThreads(1)  # the scenes are spread over processes already
    written, truths = [], []
    for step in range(site.scenario.steps):
        for channel in RIGS:
            image, classes = draw(site.scenario, step, channel, size_px)
            written.append(sensor_file(site, step, channel))
            io.write_bytes(root / written[-1], jpeg(image), sync=False)
            truths.append(f"{site.name}/{sample_data_token(site, step, channel)}.png")
            png = cv2.imencode(".png", classes, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
            io.write_bytes(oracle_root / truths[-1], png.tobytes(), sync=False)
        written.append(sensor_file(site, step, "LIDAR_TOP"))
        io.write_bytes(root / written[-1], lidar_points(site.scenario, step).tobytes(), sync=False)
    for message, values in (("pose", _pose_messages(site)), ("steeranglefeedback", _steering_messages(site))):
        written.append(f"can_bus/{site.name}_{message}.json")
        io.write_bytes(root / written[-1], json.dumps(values, allow_nan=False).encode(), sync=False)
    return written, truths


def jpeg(image: Image) -> bytes:
    """An RGB image as the data set stores it."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


def _pose_messages(site: Site) -> list[dict[str, Any]]:
    """The car's pose at 50 Hz: place in the map frame, velocity and acceleration in the ego frame."""
    times, poses, speed, acceleration, curvature = bus_track(site.scenario, 0.02)
    placed = site.pose_to_map(poses)
    return [
        {
            "utime": timestamp_us(site, 0) + round(float(times[i]) * 1e6),
            "pos": rounded([placed[i, 0], placed[i, 1], 0.0]),
            "orientation": quaternion(placed[i, 2]),
            "vel": rounded([speed[i], 0.0, 0.0]),
            "accel": rounded([acceleration[i], speed[i] ** 2 * curvature[i], 9.81]),
            "rotation_rate": rounded([0.0, 0.0, speed[i] * curvature[i]]),
        }
        for i in range(len(times))
    ]


def _steering_messages(site: Site) -> list[dict[str, Any]]:
    """The angle of the steering wheel at 100 Hz, positive to the left."""
    times, _, _, _, curvature = bus_track(site.scenario, 0.01)
    values = rounded(STEERING_RATIO * np.arctan(WHEELBASE_M * curvature))
    start = timestamp_us(site, 0)
    return [{"utime": start + round(float(t) * 1e6), "value": v} for t, v in zip(times, values, strict=True)]


def quaternion(yaw_rad: float) -> list[float]:
    """w, x, y, z of a turn about the vertical axis."""
    return rounded([np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)], 9)


def visible_share(scenario: Scenario, step: int) -> Array:
    """Share of each actor's width that no nearer, not much lower actor hides from the car; 0 beyond FAR_M."""
    actors = scenario.actors
    x, y, _ = scenario.ego_poses[step]
    corners = np.array([_corners(actor, step) for actor in actors]).reshape(len(actors), 4, 2) - (x, y)
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
    return shares


def _corners(actor: Actor, step: int) -> Array:
    x, y, yaw = actor.poses[step]
    w, length, _ = actor.size_wlh_m
    return _turned(np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (length / 2, w / 2), yaw) + (x, y)


def lidar_counts(scenario: Scenario, step: int, shares: Array) -> np.ndarray:
    """Points on each actor: by its size, its distance and how much of it is seen; at least one."""
    x, y, _ = scenario.ego_poses[step]
    away = np.array([np.hypot(actor.poses[step][0] - x, actor.poses[step][1] - y) for actor in scenario.actors])
    faces = np.array([actor.size_wlh_m[1] * actor.size_wlh_m[2] for actor in scenario.actors])
    return np.clip(2500 * faces * shares / np.maximum(away, 3) ** 2, 1, 400).round(6).astype(int)


def lidar_points(scenario: Scenario, step: int) -> Float[np.ndarray, "n 5"]:
    """x, y, z in the LIDAR_TOP frame, intensity and ring: the ground in rings, and points on each actor's box."""
    rng = np.random.default_rng((scenario.seed, 3, step))
    shares = visible_share(scenario, step)
    counts = lidar_counts(scenario, step, shares)
    ring = rng.integers(0, 14, _GROUND_POINTS)
    radius = LIDAR_M[2] / np.tan(np.deg2rad(24 - 1.6 * ring))
    angle = rng.uniform(-np.pi, np.pi, _GROUND_POINTS)
    height, intensity = np.full(_GROUND_POINTS, -LIDAR_M[2]), rng.uniform(2, 25, _GROUND_POINTS)
    clouds = [np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height, intensity, ring])]
    for actor, share, count in zip(scenario.actors, shares, counts, strict=True):
        if share > 0:
            clouds.append(_box_points(rng, actor, scenario, step, int(count)))
    return np.concatenate(clouds).round(4).astype(np.float32)


def _box_points(rng: np.random.Generator, actor: Actor, scenario: Scenario, step: int, count: int) -> Array:
    """Points inside the box near its surface, in the LIDAR_TOP frame."""
    w, length, h = actor.size_wlh_m
    local = rng.uniform(-0.49, 0.49, (count, 3))
    axis = rng.integers(0, 2, count)
    local[np.arange(count), axis] = np.sign(local[np.arange(count), axis]) * 0.49
    local = local * (length, w, h) + (0, 0, h / 2)
    x, y, yaw = actor.poses[step]
    ego_x, ego_y, ego_yaw = scenario.ego_poses[step]
    away = _turned(local[:, :2], yaw) + (x - ego_x, y - ego_y)
    ego = _turned(away, -ego_yaw) - LIDAR_M[:2]
    intensity, ring = rng.uniform(5, 60, count), rng.integers(8, 32, count)
    return np.column_stack([-ego[:, 1], ego[:, 0], local[:, 2] - LIDAR_M[2], intensity, ring])


def bus_track(scenario: Scenario, every_s: float) -> tuple[Array, Array, Array, Array, Array]:
    """Times (s), poses (n, 3) in the scene frame, speed, acceleration and curvature of the ego, `every_s` apart."""
    times = np.arange(0.0, (scenario.steps - 1) * 0.5 + every_s / 2, every_s)
    ticks = np.arange(len(scenario.traffic.ego_u_m)) * TICK_S
    u = np.interp(times, ticks, scenario.traffic.ego_u_m)
    speed, acceleration = (np.interp(times, ticks, v) for v in (scenario.traffic.ego_mps, scenario.traffic.ego_mps2))
    return times, scenario.path.pose(u), speed, acceleration, np.interp(u, scenario.path.u_m, scenario.path.curvature)


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


def seal(root: Path, oracle_root: Path, version: str, written: Sequence[str], truths: Sequence[str]) -> None:
    """Write the oracle's manifest, then `<version>/identity.json`, then the world's manifest, last.

    `truths` are the class maps. DVC stages downstream depend on <root>/<version> alone: identity.json changes whenever
    any file of the world or of the oracle does, and so stands for images, maps and bus messages there.
    """
    sealed = [oracle_root / name for name in (MARK, EVENTS_FILE, *truths)]
    io.write_manifest(oracle_root, sealed, {"images": len(truths)})
    oracle = io.sha256(oracle_root / io.MANIFEST)
    everything = [(name, io.sha256(root / name)) for name in sorted(written)]
    identity = f"{version}/identity.json"
    io.write_json(root / identity, {"world": io.fingerprint(everything), "oracle_manifest_sha256": oracle})
    notes = {"images": len(truths), "oracle_manifest_sha256": oracle}
    io.write_manifest(root, [root / name for name in (MARK, identity, *written)], notes)
