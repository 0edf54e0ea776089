"""The last seconds before a key frame: positions from ego poses, and the state on the CAN bus.

As Impromptu-VLA's data engine takes them (research/planning.md 2.1, 2.2): positions are LIDAR_TOP's, of each CAN bus
message the one nearest in time to the key frame, of two equally near the later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.scenes.base import STEP_S, Frame, inverse, move
from stages.scenes.layout import CAN_KEYS, NO_CAN, can_messages

PAST_STEPS = 6  # 3 s at 2 Hz, beside the key frame itself


@dataclass(frozen=True)
class CanState:
    """Messages of the CAN bus at one time; whole numbers stay whole, since questions print them as they are."""

    acceleration_mps2: tuple[float | int, float | int]  # ego frame, x forward, y left
    speed_mps: float | int  # forward
    steering_rad: float | int  # of the wheel, positive to the left


@dataclass(frozen=True)
class PastStep:
    """One key frame of a history."""

    seconds_ago: float  # by count of key frames, half a second each
    xy_m: tuple[float, float]  # of LIDAR_TOP from where it is now: x forward, y left along its own axes
    can: CanState | None  # None in a scene without CAN bus


def histories(frames: Sequence[Frame], states: Sequence[CanState] | None) -> dict[str, list[PastStep]]:
    """By sample token the last 3 s before each of a scene's key frames, oldest first, the key frame itself last.

    `frames` are all of one scene in the order of time; `states` one for each of them.
    """
    found = {}
    for now, frame in enumerate(frames):
        lidar_from_global, steps = inverse(frame.global_from_ego @ frame.ego_from_lidar), []
        for i in range(max(0, now - PAST_STEPS), now + 1):
            lidar_m = move(lidar_from_global, (frames[i].global_from_ego @ frames[i].ego_from_lidar)[:3, 3]).round(3)
            can = None if states is None else states[i]
            steps.append(PastStep(STEP_S * (now - i), (float(lidar_m[1]), float(-lidar_m[0])), can))
        found[frame.token] = steps
    return found


def read_can_states(root: Path, scene: str, times_us: Sequence[int]) -> list[CanState] | None:
    """The state on the CAN bus at each of `times_us`; None without one. Raises DataError for damaged messages."""
    poses, steering = (can_messages(root, scene, name) for name in CAN_KEYS)
    if not poses or not steering or scene in {f"scene-{number:04d}" for number in NO_CAN}:
        return None
    pose_at, steer_at = (nearest([m["utime"] for m in messages], times_us) for messages in (poses, steering))
    at = [(poses[i], steering[j]["value"]) for i, j in zip(pose_at, steer_at, strict=True)]
    return [CanState((pose["accel"][0], pose["accel"][1]), pose["vel"][0], angle) for pose, angle in at]


def nearest(message_us: Sequence[int], times_us: Sequence[int]) -> list[int]:
    """Index of the message nearest to each time, `message_us` ascending; of two equally near the later one."""
    gaps: Float[np.ndarray, "T M"] = np.abs(np.subtract.outer(np.array(times_us), np.array(message_us))).astype(float)
    return [int(gaps.shape[1] - 1 - gap[::-1].argmin()) for gap in gaps]
