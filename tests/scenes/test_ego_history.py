"""The last three seconds before a key frame, on the synthetic root: scene-0061 has a whole CAN bus, scene-0103 not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from synthetic_root import JUDGED, TRAIN

from stages.core.errors import DataError
from stages.scenes.base import Frame
from stages.scenes.ego_history import CanState, histories, nearest, read_can_states
from stages.scenes.nuscenes import Scenes


def frames_of(scenes: Scenes, scene: str) -> list[Frame]:
    return [scenes.frame(token) for token in scenes.tokens_of_scene(scene)]


def test_a_history_grows_to_three_seconds_of_lidar_positions_x_forward_y_left(scenes: Scenes) -> None:
    frames = frames_of(scenes, TRAIN)
    found = histories(frames, None)
    assert [len(found[frame.token]) for frame in frames] == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7]
    steps = found[frames[8].token]
    assert [step.seconds_ago for step in steps] == [3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0]
    assert {step.can for step in steps} == {None}
    now = frames[8].global_from_ego @ frames[8].ego_from_lidar
    for step, frame in zip(steps, frames[2:9], strict=True):
        right, forward, _ = np.linalg.inv(now) @ (frame.global_from_ego @ frame.ego_from_lidar)[:, 3] @ np.eye(4, 3)
        np.testing.assert_allclose(step.xy_m, [forward, -right], atol=6e-4)
    ahead = np.array([step.xy_m[0] for step in steps])
    np.testing.assert_allclose(np.diff(ahead), 3.0, atol=0.05)  # 6 m/s, half a second each


def test_the_can_bus_says_what_the_devkit_reads(scenes: Scenes) -> None:
    times_us = [frame.timestamp_us for frame in frames_of(scenes, TRAIN)]
    states = read_can_states(scenes.root, TRAIN, times_us)
    assert states is not None
    assert len(states) == 14
    pose = NuScenesCanBus(dataroot=str(scenes.root)).get_messages(TRAIN, "pose")[0]
    assert states[0] == CanState(tuple(pose["accel"][:2]), pose["vel"][0], 0.03)


def test_of_two_messages_equally_near_the_later_counts() -> None:
    assert nearest([0, 20, 40], [-5, 9, 10, 11, 30, 99]) == [0, 0, 1, 1, 2, 2]


def test_a_scene_without_can_bus_has_no_states(scenes: Scenes, tmp_path: Path) -> None:
    assert read_can_states(scenes.root, JUDGED, [0]) is None  # it lacks the steering
    assert read_can_states(tmp_path, TRAIN, [0]) is None  # no folder
    (tmp_path / "can_bus").mkdir()
    for name in ("pose", "steeranglefeedback"):
        shutil.copy(scenes.root / "can_bus" / f"{TRAIN}_{name}.json", tmp_path / "can_bus" / f"scene-0161_{name}.json")
    assert read_can_states(tmp_path, "scene-0161", [0]) is None  # on the devkit's list of scenes without one
    assert read_can_states(tmp_path, "scene-1", [0]) is None


@pytest.mark.parametrize("text", ['[{"utime": 1, "accel": [0, 0]}]', "[{", "[]", '{"utime": 1}'])
def test_damaged_messages_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "can_bus").mkdir()
    (tmp_path / "can_bus" / "scene-0001_pose.json").write_text(text)
    (tmp_path / "can_bus" / "scene-0001_steeranglefeedback.json").write_text(json.dumps([{"utime": 1, "value": 0.1}]))
    with pytest.raises(DataError, match=r"CAN bus messages.*scene-0001_pose.json.*copy them again"):
        read_can_states(tmp_path, "scene-0001", [5])
