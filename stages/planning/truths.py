"""The truth around a key frame, as protocols need it: recorded future, objects, road."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.planning.base import Agents, KeyFrame, Truth
from stages.scenes.base import (
    FUTURE_STEPS,
    NOT_SAID,
    Boxes,
    Frame,
    Surroundings,
    inverse,
    move,
    pose,
    rotations,
    yaw_rad,
)
from stages.scenes.layout import MADE_BY
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.scenes.oracle import read_class_map, read_events

STEPS = FUTURE_STEPS + 1  # now and the future
opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many scenes it works on
events_of = lru_cache(maxsize=1)(read_events)


@dataclass(frozen=True)
class Known:
    """The truth of one key frame, with event and class map where the world is drawn."""

    truth: Truth
    event: str | None  # what shapes the next 3 s, where the world is drawn
    classes: UInt8[np.ndarray, "H W"] | None  # of the front image: 0 background, i the class CLASSES[i - 1]


@dataclass(frozen=True)
class SceneTruths:
    """Looks up the truths of a scene. A plain value, so that it can be sent to another process."""

    root: str
    version: str
    oracle_root: str | None

    def __call__(self, scene: str) -> list[Known]:
        """Return the key frames of a scene in time order. Raises DataError for a missing map, event or class map."""
        scenes = opened(self.root, self.version)
        return [self._known(scenes, token) for token in scenes.tokens_of_scene(scene)]

    def _known(self, scenes: Scenes, token: str) -> Known:
        frame = scenes.frame(token)
        truth = truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame))
        if self.oracle_root is None:
            return Known(truth, None, None)
        event = events_of(Path(self.oracle_root)).get(token)
        if event is None:
            raise DataError(
                expected=f"an event for key frame {token} in {self.oracle_root}", got="none", fix=f"run `{MADE_BY}`"
            )
        return Known(truth, event, read_class_map(Path(self.oracle_root), frame, "CAM_FRONT"))


def key_frames(scenes: Scenes, split: str) -> list[KeyFrame]:
    """Return the key frames of a split, scene by scene, in time order."""
    return [
        KeyFrame(token, scene, complete=place + FUTURE_STEPS < len(tokens))
        for scene in scenes.split(split)
        for tokens in [scenes.tokens_of_scene(scene)]
        for place, token in enumerate(tokens)
    ]


def truth_from_frame(frame: Frame, drivable: Bool[np.ndarray, "1000 1000"] | None, around: Surroundings) -> Truth:
    """Return the frame's recorded future and annotated objects in its own frames, with the road around it."""
    return Truth(
        token=frame.token,
        scene=frame.scene,
        future_m=frame.future_ego_m,
        valid=np.isfinite(frame.future_ego_m).all(axis=1),
        agents=agents_around(frame, around),
        drivable=drivable,
        future_lidar_m=around.future_lidar_m,
        past_steps=around.past_steps,
        curbs_m=around.curbs_m,
    )


def for_lidar_plans(truth: Truth) -> Truth:
    """Return the same truth for a driver whose points are those of LIDAR_TOP, turned to x forward, y left.

    Impromptu-VLA answers with such points, other drivers with those of the IMU 0.99 m behind; on a turn of 30 degrees
    the two paths lie 0.5 m apart.
    """
    right_m, forward_m = truth.future_lidar_m.T
    return replace(truth, future_m=np.stack([forward_m, -right_m], axis=1))


def agents_around(frame: Frame, around: Surroundings) -> Agents:
    """Return every object annotated now or later, followed through the key frames by its instance.

    Its first size holds.
    """
    snapshots = (frame.boxes, *frame.future_boxes)
    rows: dict[str, int] = {}
    for boxes in snapshots:
        for instance in boxes.instances:
            rows.setdefault(instance, len(rows))
    categories, sizes_lw_m = [""] * len(rows), np.zeros((len(rows), 2))
    for boxes in reversed(snapshots):
        at = [rows[instance] for instance in boxes.instances]
        sizes_lw_m[at] = boxes.sizes_wlh_m[:, [1, 0]]
        for row, category in zip(at, boxes.categories, strict=True):
            categories[row] = category
    ego, level, lidar = (_track(snapshots, rows, matrix) for matrix in _views(frame))
    now = zip(frame.boxes.instances, around.marks[0].visibilities, strict=True)
    seen = around.seen_before | {instance for instance, visibility in now if visibility != 1}
    return Agents(
        categories=tuple(categories),
        sizes_lw_m=sizes_lw_m,
        centers_m=ego[0],
        yaws_rad=ego[1],
        centers_level_m=level[0],
        yaws_level_rad=level[1],
        centers_lidar_m=lidar[0],
        yaws_lidar_rad=lidar[1],
        seen=np.array([instance in seen for instance in rows], bool),
        visibilities=_numbers(snapshots, rows, [each.visibilities for each in around.marks]),
        lidar_points=_numbers(snapshots, rows, [each.lidar_points for each in around.marks]),
        radar_points=_numbers(snapshots, rows, [each.radar_points for each in around.marks]),
    )


def _views(frame: Frame) -> tuple[Float[np.ndarray, "4 4"], ...]:
    """Return matrices for points of the global frame: to ego, to level (the ego's place and yaw alone), to lidar."""
    yaw = yaw_rad(frame.global_from_ego)
    level = pose(frame.global_from_ego[:3, 3], np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]))
    return inverse(frame.global_from_ego), inverse(level), inverse(frame.global_from_ego @ frame.ego_from_lidar)


def _track(
    snapshots: Sequence[Boxes], rows: Mapping[str, int], a_from_global: Float[np.ndarray, "4 4"]
) -> tuple[Float[np.ndarray, "A 7 2"], Float[np.ndarray, "A 7"]]:
    centers_m, yaws_rad = np.full((len(rows), STEPS, 2), np.nan), np.full((len(rows), STEPS), np.nan)
    for step, boxes in enumerate(snapshots):
        at = [rows[instance] for instance in boxes.instances]
        centers_m[at, step] = move(a_from_global, boxes.centers_m)[:, :2]
        turned = (a_from_global[:3, :3] @ rotations(boxes.rotations_wxyz)).round(9) + 0.0  # no minus zero: pi, not -pi
        yaws_rad[at, step] = np.arctan2(turned[:, 1, 0], turned[:, 0, 0])
    return centers_m.round(9), yaws_rad.round(9)  # last bits differ between CPUs


def _numbers(
    snapshots: Sequence[Boxes], rows: Mapping[str, int], marks: Sequence[NDArray[np.int64]]
) -> Int[np.ndarray, "A 7"]:
    numbers = np.full((len(rows), STEPS), NOT_SAID)
    for step, (boxes, values) in enumerate(zip(snapshots, marks, strict=True)):
        numbers[[rows[instance] for instance in boxes.instances], step] = values
    return numbers
