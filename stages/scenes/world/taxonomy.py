"""The tables that say what words mean: categories, attributes, visibilities, sensors. Equal in every drawn data set."""

from typing import Any

from stages.scenes.world.recording import CHANNELS
from stages.scenes.world.sites import token

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
