"""The truth around a key frame, as protocols need it: recorded future, objects, road."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.core.errors import DataError
from stages.planning.base import Agents, KeyFrame, Track, Truth
from stages.scenes.base import FUTURE_STEPS, NOT_SAID, Frame, Surroundings, inverse, move, pose, rotations, yaw_rad
from stages.scenes.layout import MADE_BY, read_class_map, read_events
from stages.scenes.nuscenes import Scenes, open_scenes

STEPS = FUTURE_STEPS + 1  # now and the future
opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many scenes it works on
events_of = lru_cache(maxsize=1)(read_events)


def truths_of(scene: str, root: str, version: str, oracle_root: str | None) -> list[Truth]:
    """Return the key frames of a scene in time order. Raises DataError for a missing map, event or class map."""
    scenes, truths = opened(root, version), []
    for frame in map(scenes.frame, scenes.tokens_of_scene(scene)):
        truth = truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame))
        if oracle_root is not None:
            event = events_of(Path(oracle_root)).get(frame.token)
            if event is None:
                expected = f"an event for key frame {frame.token} in {oracle_root}"
                raise DataError(expected=expected, got="none", fix=f"run `{MADE_BY}`")
            path = Path(oracle_root, frame.scene, f"{frame.cameras['CAM_FRONT'].token}.png")
            truth = replace(truth, event=event, classes=read_class_map(path))
        truths.append(truth)
    return truths


def key_frames(scenes: Scenes, split: str) -> list[KeyFrame]:
    """Return the key frames of a split, scene by scene, in time order."""
    return [
        KeyFrame(token, scene, place, complete=place + FUTURE_STEPS < len(tokens))
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

    Impromptu-VLA's are; others' are of the IMU 0.99 m behind: on a turn of 30 degrees the paths lie 0.5 m apart.
    """
    right_m, forward_m = truth.future_lidar_m.T
    return replace(truth, future_m=np.stack([forward_m, -right_m], axis=1))


def agents_around(frame: Frame, around: Surroundings) -> Agents:
    """Return every object annotated now or later, followed by its instance; its first size holds."""
    snapshots = (frame.boxes, *frame.future_boxes)
    rows: dict[str, int] = {}
    for boxes in snapshots:
        for instance in boxes.instances:
            rows.setdefault(instance, len(rows))
    places = [[rows[instance] for instance in boxes.instances] for boxes in snapshots]
    categories, sizes_lw_m = [""] * len(rows), np.zeros((len(rows), 2))
    for boxes, at in zip(reversed(snapshots), reversed(places), strict=True):
        sizes_lw_m[at] = boxes.sizes_wlh_m[:, [1, 0]]
        for row, category in zip(at, boxes.categories, strict=True):
            categories[row] = category
    now = zip(frame.boxes.instances, around.marks[0].visibilities, strict=True)
    seen = around.seen_before | {instance for instance, visibility in now if visibility != 1}
    yaw = yaw_rad(frame.global_from_ego)
    level = pose(frame.global_from_ego[:3, 3], np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]))

    def track(global_from_a: Float[np.ndarray, "4 4"]) -> Track:
        a_from_global = inverse(global_from_a)
        centers_m, yaws_rad = np.full((len(rows), STEPS, 2), np.nan), np.full((len(rows), STEPS), np.nan)
        for step, (boxes, at) in enumerate(zip(snapshots, places, strict=True)):
            centers_m[at, step] = move(a_from_global, boxes.centers_m)[:, :2]
            turned = (a_from_global[:3, :3] @ rotations(boxes.rotations_wxyz)).round(9)
            turned += 0.0  # no minus zero: pi, not -pi
            yaws_rad[at, step] = np.arctan2(turned[:, 1, 0], turned[:, 0, 0])
        return Track(centers_m.round(9), yaws_rad.round(9))  # last bits differ between CPUs

    def numbers(name: str) -> Int[np.ndarray, "A 7"]:
        values = np.full((len(rows), STEPS), NOT_SAID)
        for step, (at, marks) in enumerate(zip(places, around.marks, strict=True)):
            values[at, step] = getattr(marks, name)
        return values

    return Agents(
        categories=tuple(categories),
        sizes_lw_m=sizes_lw_m,
        ego=track(frame.global_from_ego),
        level=track(level),
        lidar=track(frame.global_from_ego @ frame.ego_from_lidar),
        seen=np.array([instance in seen for instance in rows], bool),
        visibilities=numbers("visibilities"),
        lidar_points=numbers("lidar_points"),
        radar_points=numbers("radar_points"),
    )
