"""What planning protocols ask of a key frame beyond its `Frame`: how well a box was seen, and where the lidar went.

Beside base.py, so that a question of a protocol does not touch the record that drivers are trained from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.scenes.base import FUTURE_STEPS, inverse, move, pose

SEEN_STEPS = 2  # what ST-P3 sees: now and two key frames before
NOT_SAID = -1  # a table that leaves out visibility or points
Get = Callable[[str, str], Mapping[str, Any]]  # table, token -> record


@dataclass(frozen=True)
class Marks:
    """Of the M boxes of one key frame, in the order of its `Boxes`; NOT_SAID where the tables do not tell."""

    visibilities: NDArray[np.int64]  # (M,) nuScenes' levels: 1 is under 40 % visible, 4 over 80 %
    lidar_points: NDArray[np.int64]  # (M,) inside the box
    radar_points: NDArray[np.int64]  # (M,)


@dataclass(frozen=True)
class Surroundings:
    """Beside a `Frame`: marks of its boxes and those of the next key frames, the past, and the lidar's own future."""

    past_steps: int  # key frames of the scene before this one
    seen_before: frozenset[str]  # instances that were more than level 1 visible in one of the two key frames before
    marks: tuple[Marks, ...]  # of now and the next key frames, at most 1 + T
    future_lidar_m: Float[np.ndarray, "T 2"]  # positions of LIDAR_TOP, in its frame of now; NaN past the scene's end
    curbs_m: Float[np.ndarray, "S 2 2"]  # edges of road segments and lanes: S lines from point to point, ego frame


def surroundings_of(
    samples: Sequence[Mapping[str, Any]], marks: Sequence[Marks], curbs_m: NDArray[np.float64], get: Get
) -> Surroundings:
    """Of the key frame `samples[0]` and the at most T after it; `get` reads a record of a table."""
    poses = [global_from_lidar(sample, get) for sample in samples]
    path_m = np.full((FUTURE_STEPS, 2), np.nan)
    for step, later in enumerate(poses[1:]):
        path_m[step] = move(inverse(poses[0]), later[:3, 3])[:2]
    past = _past(samples[0], get)
    near = [get("sample_annotation", name) for earlier in past[:SEEN_STEPS] for name in earlier["anns"]]
    seen = frozenset(record["instance_token"] for record in near if record.get("visibility_token") != "1")
    return Surroundings(len(past), seen, tuple(marks), path_m, curbs_m)


def _past(sample: Mapping[str, Any], get: Get) -> list[Mapping[str, Any]]:
    """The key frames before one, the last first."""
    past: list[Mapping[str, Any]] = []
    while sample["prev"]:
        sample = get("sample", sample["prev"])
        past.append(sample)
    return past


def marks_of(annotations: Sequence[Mapping[str, Any]]) -> Marks:
    """Marks of records of sample_annotation."""
    return Marks(
        visibilities=_numbers(annotations, "visibility_token"),
        lidar_points=_numbers(annotations, "num_lidar_pts"),
        radar_points=_numbers(annotations, "num_radar_pts"),
    )


def _numbers(records: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.int64]:
    values = [record.get(key, "") for record in records]
    return np.array([NOT_SAID if value == "" else int(value) for value in values], np.int64)


def global_from_lidar(sample: Mapping[str, Any], get: Get) -> Float[np.ndarray, "4 4"]:
    """The pose of LIDAR_TOP at its own time stamp."""
    data = get("sample_data", sample["data"]["LIDAR_TOP"])
    ego, sensor = get("ego_pose", data["ego_pose_token"]), get("calibrated_sensor", data["calibrated_sensor_token"])
    global_from_ego, ego_from_lidar = (
        pose(np.array(record["translation"], float), np.array(record["rotation"], float)) for record in (ego, sensor)
    )
    return global_from_ego @ ego_from_lidar
