"""Writes one drawn scene: images, class maps, lidar sweeps and bus messages. A worker does one scene at a time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.core import io
from stages.scenes.world.camera import RIGS
from stages.scenes.world.drawing import draw
from stages.scenes.world.roads import Array
from stages.scenes.world.sensing import STEERING_RATIO, WHEELBASE_M, bus_track, lidar_points
from stages.scenes.world.sites import Site, token

CHANNELS = (*RIGS, "LIDAR_TOP")
JPEG_QUALITY = 92
FIRST_US = 1_700_000_000_000_000  # time of the first key frame of the first scene
_SCENE_US = 60_000_000


@dataclass(frozen=True, eq=False)
class Recording:
    """One scene to be written, and where to."""

    site: Site
    root: Path
    oracle_root: Path
    size_px: tuple[int, int]

    def __repr__(self) -> str:
        return f"{self.site.name} (seed {self.site.scenario.seed})"


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


def record(job: Recording) -> tuple[list[str], list[str]]:
    """Write a scene's files; their paths inside the root, and inside the oracle's. Equal jobs write equal bytes."""
    cv2.setNumThreads(1)  # the scenes are spread over processes already
    site, scenario = job.site, job.site.scenario
    written, truths = [], []
    for step in range(scenario.steps):
        for channel in RIGS:
            image, classes = draw(scenario, step, channel, job.size_px)
            written.append(sensor_file(site, step, channel))
            truths.append(f"{site.name}/{sample_data_token(site, step, channel)}.png")
            jpeg = cv2.imencode(
                ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            )[1]
            io.write_bytes(job.root / written[-1], jpeg.tobytes(), sync=False)
            png = cv2.imencode(".png", classes, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
            io.write_bytes(job.oracle_root / truths[-1], png.tobytes(), sync=False)
        written.append(sensor_file(site, step, "LIDAR_TOP"))
        io.write_bytes(job.root / written[-1], lidar_points(scenario, step).tobytes(), sync=False)
    for message, values in (("pose", _pose_messages(site)), ("steeranglefeedback", _steering_messages(site))):
        written.append(f"can_bus/{site.name}_{message}.json")
        io.write_bytes(job.root / written[-1], json.dumps(values, allow_nan=False).encode(), sync=False)
    return written, truths


def _pose_messages(site: Site) -> list[dict[str, Any]]:
    """The car's pose at 50 Hz: place in the map frame, velocity and acceleration in the ego frame."""
    times, poses, speed, acceleration, curvature = bus_track(site.scenario, 0.02)
    placed = site.pose_to_map(poses)
    return [
        {
            "utime": timestamp_us(site, 0) + round(float(times[i]) * 1e6),
            "pos": [float(placed[i, 0]), float(placed[i, 1]), 0.0],
            "orientation": quaternion(placed[i, 2]),
            "vel": [float(speed[i]), 0.0, 0.0],
            "accel": [float(acceleration[i]), float(speed[i] ** 2 * curvature[i]), 9.81],
            "rotation_rate": [0.0, 0.0, float(speed[i] * curvature[i])],
        }
        for i in range(len(times))
    ]


def _steering_messages(site: Site) -> list[dict[str, Any]]:
    """The angle of the steering wheel at 100 Hz, positive to the left."""
    times, _, _, _, curvature = bus_track(site.scenario, 0.01)
    values: Array = STEERING_RATIO * np.arctan(WHEELBASE_M * curvature)
    start = timestamp_us(site, 0)
    return [{"utime": start + round(float(t) * 1e6), "value": float(v)} for t, v in zip(times, values, strict=True)]


def quaternion(yaw_rad: float) -> list[float]:
    """w, x, y, z of a turn about the vertical axis."""
    return [float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2))]
