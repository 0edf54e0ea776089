"""The 13 tables of a drawn data set, its maps and splits (research/planning.md 3.1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.core import io
from stages.scenes.world.actors import Actor
from stages.scenes.world.camera import RIGS, ego_from_camera, intrinsic
from stages.scenes.world.recording import (
    CHANNELS,
    LIDAR_M,
    lidar_counts,
    logfile,
    quaternion,
    sample_data_token,
    sample_token,
    sensor_file,
    timestamp_us,
    visible_share,
)
from stages.scenes.world.scenario import LOCATIONS
from stages.scenes.world.sites import Site, expansion, token

Tables = dict[str, list[dict[str, Any]]]

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


def fixed_tables() -> Tables:
    names = ("instance", "calibrated_sensor", "ego_pose", "log", "scene", "sample", "sample_data", "sample_annotation")
    return {
        "category": [{"token": token("category", name), "name": name, "description": ""} for name in CATEGORIES],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES],
        "visibility": [
            {
                "token": key,
                "level": level,
                "description": f"visibility of whole object is between {level[1:].replace('-', ' and ')}%",
            }
            for key, level in VISIBILITIES.items()
        ],
        "sensor": [
            {"token": token("sensor", name), "channel": name, "modality": "lidar" if name == "LIDAR_TOP" else "camera"}
            for name in CHANNELS
        ],
        **{name: [] for name in names},
    }


_NO_CAN = {*range(161, 169), *range(170, 177), *range(309, 315)}  # the devkit refuses bus messages of these scenes


def scene_names(count: int) -> list[str]:
    """`count` scene names that the CAN bus reader accepts."""
    numbers = [number for number in range(1, count + len(_NO_CAN) + 1) if number not in _NO_CAN]
    return [f"scene-{number:04d}" for number in numbers[:count]]


def write_tables(
    root: Path, version: str, sites: Sequence[Site], size_px: tuple[int, int], splits: Mapping[str, list[str]]
) -> list[str]:
    """Write tables, splits and maps; returns their paths inside `root`."""
    tables = fixed_tables()
    tables["map"] = [_map_record(location, sites) for location in LOCATIONS]
    for site in sites:
        _add_scene(tables, site, size_px)
    written = []
    for name, records in tables.items():
        written.append(f"{version}/{name}.json")
        io.write_json(root / written[-1], records)
    written.append(f"{version}/splits.json")
    io.write_json(root / written[-1], splits)
    for location, record in zip(LOCATIONS, tables["map"], strict=True):
        layers = expansion(location, sites)
        written += [f"maps/expansion/{location}.json", record["filename"]]
        io.write_json(root / written[-2], layers)
        io.write_bytes(root / written[-1], _overview(layers))
    return written


def event_table(sites: Sequence[Site]) -> dict[str, str]:
    """The event of each key frame, by its sample token."""
    return {sample_token(s, step): s.scenario.event(step) for s in sites for step in range(s.scenario.steps)}


def _map_record(location: str, sites: Sequence[Site]) -> dict[str, Any]:
    name = token("map", location)
    logs = [token(site.name, "log") for site in sites if site.scenario.location == location]
    return {"token": name, "log_tokens": logs, "category": "semantic_prior", "filename": f"maps/{name}.png"}


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


def _add_scene(tables: Tables, site: Site, size_px: tuple[int, int]) -> None:
    steps = site.scenario.steps
    samples = [sample_token(site, step) for step in range(steps)]
    tables["log"].append(
        {
            "token": token(site.name, "log"),
            "logfile": logfile(site),
            "vehicle": "n900",
            "date_captured": logfile(site)[5:15],
            "location": site.scenario.location,
        }
    )
    tables["scene"].append(
        {
            "token": token(site.name, "scene"),
            "log_token": token(site.name, "log"),
            "nbr_samples": steps,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": site.name,
            "description": site.scenario.description,
        }
    )
    for step, name in enumerate(samples):
        tables["sample"].append(
            {
                "token": name,
                "timestamp": timestamp_us(site, step),
                "prev": _at(samples, step - 1),
                "next": _at(samples, step + 1),
                "scene_token": token(site.name, "scene"),
            }
        )
    for channel in CHANNELS:
        tables["calibrated_sensor"].append(_calibration(site, channel, size_px))
        _add_sensor_chain(tables, site, channel, size_px)
    _add_annotations(tables, site, samples)


def _at(tokens: Sequence[str], index: int) -> str:
    """A neighbour in a chain; "" beyond its ends."""
    return tokens[index] if 0 <= index < len(tokens) else ""


def _calibration(site: Site, channel: str, size_px: tuple[int, int]) -> dict[str, Any]:
    from pyquaternion import Quaternion

    if channel == "LIDAR_TOP":
        place, turn, lens = list(LIDAR_M), quaternion(-np.pi / 2), []
    else:
        rig = RIGS[channel]
        place = [float(x) for x in rig.translation_m]
        turn = [float(x) for x in Quaternion(matrix=ego_from_camera(rig)).elements]
        lens = intrinsic(rig, size_px).tolist()
    return {
        "token": token(site.name, "calibrated_sensor", channel),
        "sensor_token": token("sensor", channel),
        "translation": place,
        "rotation": turn,
        "camera_intrinsic": lens,
    }


def _add_sensor_chain(tables: Tables, site: Site, channel: str, size_px: tuple[int, int]) -> None:
    steps = site.scenario.steps
    names = [sample_data_token(site, step, channel) for step in range(steps)]
    poses = site.pose_to_map(site.scenario.ego_poses[:steps])
    width, height = (0, 0) if channel == "LIDAR_TOP" else size_px
    for step, name in enumerate(names):
        pose = token(site.name, "ego_pose", channel, step)
        tables["ego_pose"].append(
            {
                "token": pose,
                "timestamp": timestamp_us(site, step),
                "rotation": quaternion(poses[step, 2]),
                "translation": [float(poses[step, 0]), float(poses[step, 1]), 0.0],
            }
        )
        tables["sample_data"].append(
            {
                "token": name,
                "sample_token": sample_token(site, step),
                "ego_pose_token": pose,
                "calibrated_sensor_token": token(site.name, "calibrated_sensor", channel),
                "timestamp": timestamp_us(site, step),
                "fileformat": "pcd" if channel == "LIDAR_TOP" else "jpg",
                "is_key_frame": True,
                "height": height,
                "width": width,
                "filename": sensor_file(site, step, channel),
                "prev": _at(names, step - 1),
                "next": _at(names, step + 1),
            }
        )


def _add_annotations(tables: Tables, site: Site, samples: Sequence[str]) -> None:
    """Boxes of all actors within reach of the car, each actor one instance with one chain."""
    scenario = site.scenario
    shares = np.array([visible_share(scenario, step) for step in range(scenario.steps)])
    counts = np.array([lidar_counts(scenario, step, shares[step]) for step in range(scenario.steps)])
    for index, actor in enumerate(scenario.actors):
        near = np.flatnonzero(shares[:, index] > 0).tolist()
        if not near:
            continue
        instance = token(site.name, "instance", index)
        names = [token(site.name, "sample_annotation", index, step) for step in near]
        poses = site.pose_to_map(actor.poses)
        for place, step in enumerate(near):
            tables["sample_annotation"].append(
                {
                    "token": names[place],
                    "sample_token": samples[step],
                    "instance_token": instance,
                    "visibility_token": _visibility(float(shares[step, index])),
                    "attribute_tokens": _attributes(actor, step),
                    "translation": [float(poses[step, 0]), float(poses[step, 1]), float(actor.size_wlh_m[2] / 2)],
                    "size": [float(x) for x in actor.size_wlh_m],
                    "rotation": quaternion(poses[step, 2]),
                    "prev": _at(names, place - 1),
                    "next": _at(names, place + 1),
                    "num_lidar_pts": int(counts[step, index]),
                    "num_radar_pts": 0,
                }
            )
        tables["instance"].append(
            {
                "token": instance,
                "category_token": token("category", actor.category),
                "nbr_annotations": len(names),
                "first_annotation_token": names[0],
                "last_annotation_token": names[-1],
            }
        )


def _visibility(share: float) -> str:
    return str(1 + sum(share >= edge for edge in (0.4, 0.6, 0.8)))


def _attributes(actor: Actor, step: int) -> list[str]:
    moves = bool(actor.moving[step])
    if actor.category == "vehicle.bicycle":
        name = "cycle.with_rider"
    elif actor.category.startswith("vehicle"):
        name = "vehicle.moving" if moves else "vehicle.stopped" if actor.moving.any() else "vehicle.parked"
    elif actor.category.startswith("human"):
        name = "pedestrian.moving" if moves else "pedestrian.standing"
    else:
        return []
    return [token("attribute", name)]
